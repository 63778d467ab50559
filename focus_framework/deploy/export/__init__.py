"""Files that give the same masks without this framework: ONNX and torch.export."""
