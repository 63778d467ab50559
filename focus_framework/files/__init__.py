"""Reading and writing files: atomic replacement, images, sheets of many images, pages of HTML."""
