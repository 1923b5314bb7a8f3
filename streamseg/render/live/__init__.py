"""The live display: one view (core/view.py) drawn as an image."""

from streamseg.render.live.painter import LivePainter, compose_live
from streamseg.render.live.style import LiveStyle

__all__ = ["LivePainter", "LiveStyle", "compose_live"]
