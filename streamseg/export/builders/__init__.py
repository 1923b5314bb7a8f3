"""One builder per kind of engine."""
