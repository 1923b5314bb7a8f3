"""The live display, painted."""
