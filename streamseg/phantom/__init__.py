"""A seeded generator of ultrasound pictures of nerves, with exact masks."""

from streamseg.phantom.model import PhantomImage
from streamseg.phantom.still import render_still

__all__ = ["PhantomImage", "render_still"]
