"""One file a model: what it is told by, its config, its table."""
