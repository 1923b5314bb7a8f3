"""Frame grabbers on Linux (Video4Linux2)."""
