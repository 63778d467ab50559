"""What plugin authors may import besides the public names: timm networks, image-text encoders, drawing practice images."""
