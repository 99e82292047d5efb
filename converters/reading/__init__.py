"""What SOURCE means, and how checkpoints are read."""
