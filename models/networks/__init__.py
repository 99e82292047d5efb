"""One file a model: the network in MLX."""
