"""What is done with a model or an installation beside training: speed, diagnosis."""
