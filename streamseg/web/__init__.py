"""The web page: shows what the live loop decided, on any screen in the network."""

from streamseg.web.display import StreamDisplay, WebDisplay, WebWall

__all__ = ["StreamDisplay", "WebDisplay", "WebWall"]
