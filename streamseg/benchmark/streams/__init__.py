"""Live streams side by side on one machine."""
