"""Several processes of one run: their communication, sharded weights, signals."""
