"""The web page: shows what the live loop decided, on any screen in the network."""

from streamseg.web.display import WebDisplay

__all__ = ["WebDisplay"]
