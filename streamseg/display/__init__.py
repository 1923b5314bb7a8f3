"""The display on this machine: the guidance window."""

from streamseg.display.window import WindowDisplay

__all__ = ["WindowDisplay"]
