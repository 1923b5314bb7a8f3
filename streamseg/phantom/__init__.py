"""A seeded generator of ultrasound pictures of nerves, with exact masks."""

from streamseg.phantom.model import PhantomImage
from streamseg.phantom.still import render_still
from streamseg.phantom.video import PhantomVideo

__all__ = ["PhantomImage", "PhantomVideo", "render_still"]
