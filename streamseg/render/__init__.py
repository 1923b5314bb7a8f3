"""Draws the outline over the image, and the figures beside it."""

from streamseg.render.compose import compose, compose_plain
from streamseg.render.overlay import draw_overlay

__all__ = ["compose", "compose_plain", "draw_overlay"]
