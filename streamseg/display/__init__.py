"""Displays that belong to this machine: the guidance window."""

from streamseg.display.window import WindowDisplay

__all__ = ["WindowDisplay"]
