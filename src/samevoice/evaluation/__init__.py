"""How well a pipeline does on recordings with references."""
