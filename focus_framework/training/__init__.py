"""Training: the loop and its update, several processes, and what a run records."""
