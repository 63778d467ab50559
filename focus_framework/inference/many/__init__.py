"""Predicting many images: what there is to do, what is done, and reading, network and writing at the same time."""
