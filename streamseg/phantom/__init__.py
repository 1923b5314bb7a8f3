"""Generates synthetic ultrasound images and videos of nerves from a seed, with exact masks."""

from streamseg.phantom.model import PhantomImage
from streamseg.phantom.still import render_still
from streamseg.phantom.video import PhantomVideo

__all__ = ["PhantomImage", "PhantomVideo", "render_still"]
