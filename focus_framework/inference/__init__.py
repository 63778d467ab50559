"""From images to masks: the model with its preparation, test-time views, results and the files made of them."""
