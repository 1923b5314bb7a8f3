"""Draws the banner of the live display: the state in large letters, and the reason for it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from streamseg.core.types import Image, Roi, State
from streamseg.core.view import View
from streamseg.render.live.layout import Layout
from streamseg.render.live.style import LiveStyle
from streamseg.render.overlay import shows_vessels
from streamseg.render.replay_panel import BACKGROUND
from streamseg.render.symbols import HELD, INK, STATE_WORDS, draw_symbol, state_colours
from streamseg.render.text import CAP_HEIGHT, changing_width, fit_size, put_changing, put_text

_LETTERS = 104
"""Size of the state's letters in units (capitals are 73 high)."""
_REASON, _PITCH = 38, 42
_REASON_ROOM = 420
"""Minimum width in units of the reason beside the state."""


def draw_banner(canvas: Image, layout: Layout, view: View, style: LiveStyle) -> None:
    """Draw state and reason into the banner, which must be cleared."""
    place, u = layout.banner, layout.u
    margin = round(14 * u)
    sign = HELD if style.held_s is not None else str(view.state)
    height = round(112 * u)
    max_width = place.width - 2 * margin - (0 if layout.narrow else round(_REASON_ROOM * u))
    card = _card(sign, max(8, height), max(8, max_width), max(8, round(_LETTERS * u)))
    left, top = place.x + margin, place.y + round(10 * u)
    room = canvas[top : top + card.shape[0], left : left + card.shape[1]]
    np.copyto(room, card[: room.shape[0], : room.shape[1]])
    if layout.narrow:
        below = top + height
        area = Roi(left, below, max(1, place.width - 2 * margin), max(1, place.y + place.height - below))
    else:
        beside = left + card.shape[1] + round(28 * u)
        area = Roi(beside, top, max(1, place.width - margin - beside), max(1, height))
    _write(canvas, area, _reason(view, style), u)


def _reason(view: View, style: LiveStyle) -> str:
    if style.held_s is not None:
        text = f"for {style.held_s} s; press f to continue"
        return f"{text}. Live now: {style.live_now}" if style.live_now else text
    if not style.overlay and _is_outlined(view, style):
        return "outline switched off"
    return view.reason


def _is_outlined(view: View, style: LiveStyle) -> bool:
    """Whether the view has an outline that would be drawn."""
    if view.state in (State.NERVE, State.LOW_CONFIDENCE):
        return True
    return style.vessels and view.segmentation is not None and shows_vessels(view.segmentation)


@lru_cache(maxsize=16)
def _card(sign: str, height: int, max_width: int, letters: int) -> Image:
    """Symbol and words on the state's colour, as wide as they need, up to ``max_width``."""
    background, ink = state_colours(sign)
    radius = height * 0.32
    before, after = round(radius * 3.1), round(radius * 0.8)
    words = STATE_WORDS[sign]
    size = fit_size(words, letters, max(1, max_width - before - after), bold=True)
    width = min(max_width, before + changing_width(words, size, bold=True) + after)
    card = np.full((height, width, 3), background, np.uint8)
    draw_symbol(card, sign, (radius * 1.6, height / 2), radius, ink)
    baseline = round((height + size * CAP_HEIGHT) / 2)
    put_text(card, words, before, baseline, size, colour=ink, background=background, bold=True)
    card.flags.writeable = False
    return card


def _write(canvas: Image, area: Roi, text: str, u: float) -> None:
    """Wrap text into the area, in smaller letters if it does not fit; what still does not fit is cut."""
    if not text:
        return
    size = max(8, round(_REASON * u))
    while size > 8 and len(_wrapped(text, size, area.width)) * size * _PITCH / _REASON > area.height:
        size -= max(1, size // 12)
    pitch = size * _PITCH / _REASON
    lines = _wrapped(text, size, area.width)[: max(1, int(area.height / pitch))]
    first = area.y + (area.height - pitch * (len(lines) - 1) + size * CAP_HEIGHT) / 2
    window = canvas[:, : area.x + area.width]
    for row, line in enumerate(lines):
        baseline = round(first + row * pitch)
        put_changing(window, line, area.x, baseline, size, colour=INK, background=BACKGROUND)


def _wrapped(text: str, size: int, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and changing_width(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
