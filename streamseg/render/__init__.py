"""Pictures for people: outlines over the image, figures beside it."""

from streamseg.render.compose import compose, compose_plain
from streamseg.render.overlay import draw_overlay

__all__ = ["compose", "compose_plain", "draw_overlay"]
