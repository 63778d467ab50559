"""Films: frames read one after another, predicted, and written as a film again with the sound that it had. Needs the extra ``video``."""
