"""OpenIGTLink: serves live views to the operating room's software, and reads the messages of others."""

from streamseg.openigtlink.server import OpenIGTLinkDisplay

__all__ = ["OpenIGTLinkDisplay"]
