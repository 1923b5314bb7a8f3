"""The web page: what the loop decided to show, on every screen near the machine."""

from streamseg.web.display import WebDisplay

__all__ = ["WebDisplay"]
