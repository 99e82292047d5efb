"""Nothing leaves without a green result for exactly these bytes, and whoever gets it can check."""
