"""All figures that are owed of a GPU, by one command: ``python -m benchmarks.gpu --out DIR``."""
