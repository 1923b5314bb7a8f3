"""Paints the live display: the state on top, the image with nothing on it but the outline, the figures."""

from __future__ import annotations

import numpy as np

from streamseg.core.spec import VESSEL
from streamseg.core.types import Image, Roi
from streamseg.core.view import Figures, View, without_expired_outline
from streamseg.render.live.banner import draw_banner
from streamseg.render.live.image import draw_image, shown_region
from streamseg.render.live.layout import Layout
from streamseg.render.live.panel import Panel
from streamseg.render.live.style import LiveStyle
from streamseg.render.replay_panel import BACKGROUND, DIM, DISCLAIMER
from streamseg.render.symbols import INK
from streamseg.render.text import CAP_HEIGHT, fit_size, put_text

REFRESH_NS = 250_000_000
"""Interval at which rates, counts and percentiles are redrawn; nobody reads them faster."""
_PLAIN = LiveStyle()


def compose_live(view: View, size: tuple[int, int] | None = None, style: LiveStyle = _PLAIN) -> Image:
    """Draw a view: a new BGR image, uint8 (height, width, 3).

    ``size`` is (width, height) in pixels, at least 320x240. With None the image region keeps its own size
    (enlarged to 480 rows if smaller), and the even output size depends only on it. Shows only the region
    unless ``style.full_frame``; without a frame or a region, only the state.
    """
    return LivePainter().paint(view, size, style)


class LivePainter:
    """Draws views one after another, caching what changes rarely. For use from one thread."""

    def __init__(self) -> None:
        self._ground: Image | None = None
        self._panel: Panel | None = None
        self._key: object = None
        self._vessels = False
        self._figures = Figures()
        self._drawn_ns = 0

    def paint(
        self,
        view: View,
        size: tuple[int, int] | None = None,
        style: LiveStyle = _PLAIN,
        *,
        now_ns: int | None = None,
        canvas: Image | None = None,
    ) -> Image:
        """Draw a view as :func:`compose_live` does, into ``canvas`` if that has the right size.

        ``now_ns`` (monotonic) is the time at which it will be seen, ``view.at_ns`` by default: the age shown
        is the age at that time, and an outline that has expired by then is left out.
        """
        now_ns = view.at_ns if now_ns is None else now_ns
        view = without_expired_outline(view, now_ns)
        if view.segmentation is not None:
            # Between outlines nothing says whether the engine outlines vessels; their figures stay in place.
            self._vessels = VESSEL in view.segmentation.others
        shown = shown_region(view, style)
        extent = None if shown is None else (shown.width, shown.height)
        layout = Layout.natural(extent) if size is None else Layout.fit(size, extent)
        ground, panel = self._prepared(layout, style, view.figures, now_ns)
        if canvas is None or canvas.shape != ground.shape:
            canvas = np.empty_like(ground)
        np.copyto(canvas, ground)
        draw_image(canvas, layout, view, style)
        draw_banner(canvas, layout, view, style)
        age_ns = None if view.frame is None else now_ns - view.frame.captured_ns
        panel.draw_frame(canvas, view, age_ns, style)
        if style.notice:
            _draw_footer(canvas, layout, style.notice, notice=True)
        return canvas

    def _prepared(
        self, layout: Layout, style: LiveStyle, figures: Figures, now_ns: int
    ) -> tuple[Image, Panel]:
        """The background with the figures of the run: everything that does not belong to one frame."""
        key = layout, style.keys, self._vessels
        if self._ground is None or self._panel is None or key != self._key:
            self._panel = Panel(layout, vessels=self._vessels)
            self._ground = _ground(layout, style.keys, self._vessels)
            self._key = key
        elif figures is self._figures or (
            0 <= now_ns - self._drawn_ns < REFRESH_NS and figures.recording == self._figures.recording
        ):
            return self._ground, self._panel
        self._panel.draw_run(self._ground, figures)
        self._figures, self._drawn_ns = figures, now_ns
        return self._ground, self._panel


def _ground(layout: Layout, keys: str, vessels: bool) -> Image:
    """The background with labels, keys and disclaimer."""
    canvas = np.full((layout.height, layout.width, 3), BACKGROUND, np.uint8)
    Panel(layout, vessels=vessels).draw_labels(canvas)
    _draw_footer(canvas, layout, keys, notice=False)
    return canvas


def _draw_footer(canvas: Image, layout: Layout, text: str, *, notice: bool) -> None:
    """Draw the keys or a notice on the left, the disclaimer on the right."""
    place = layout.footer
    size = max(8, round(place.height * 0.56))
    margin = round(24 * layout.u)
    half = Roi(place.x, place.y, max(1, round(place.width * 0.62)), place.height)
    half.crop(canvas)[:] = BACKGROUND
    colour = INK if notice else DIM
    for words, x, room, right in (
        (text, place.x + margin, half.width - margin, False),
        (DISCLAIMER, place.x + place.width - margin, place.width - half.width - margin, True),
    ):
        fitted = fit_size(words, size, max(1, room - margin))
        baseline = place.y + round((place.height + fitted * CAP_HEIGHT) / 2)
        ink = colour if words is text else DIM
        put_text(canvas, words, x, baseline, fitted, colour=ink, background=BACKGROUND, right=right)
