"""Forms that are fast on one device, each beside the plain form that it must equal."""
