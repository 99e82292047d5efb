"""One file a model: the PyTorch side, built as its authors wrote it."""
