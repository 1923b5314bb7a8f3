"""Draws a replay's panel of figures (state, confidence, area, rates, times) beside the image, never on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from streamseg.core.latency import Percentiles
from streamseg.core.outline_distance import nerve_vessel_distance_mm
from streamseg.core.spec import VESSEL
from streamseg.core.types import Image, Result, Roi, State, Structure
from streamseg.render.overlay import NERVE_LINES, VESSEL_LINE, Line, draw_line_sample
from streamseg.render.symbols import CARD, INK, STATE_WORDS, draw_symbol, state_colours
from streamseg.render.text import CAP_HEIGHT, Colour, fit_size, put_text, text_width

DISCLAIMER = "Research software - not a medical device"
BACKGROUND: Colour = (30, 25, 22)
DIM: Colour = (178, 168, 160)
NOTHING = "-"


def draw_panel(
    canvas: Image,
    result: Result,
    *,
    stages: Mapping[str, Percentiles],
    fps: float | None,
    beside: bool,
    vessels: bool = True,
) -> None:
    """Fill a BGR canvas, uint8 (height, width, 3), with the figures of one result; ``vessels``: theirs too.

    ``beside`` stacks the groups in an upright panel (34 lines of text high); otherwise they are placed side
    by side in a flat one (72 ems wide). ``stages`` are the latencies per stage, ``fps`` the frames per
    second, or None if not yet known. What does not fit is shrunk or cut, never drawn outside the canvas.
    """
    height, width = canvas.shape[:2]
    np.copyto(canvas, _card(height, width, BACKGROUND))
    em = height / 34 if beside else width / 72

    def area(x: float, y: float, right: float, bottom: float) -> Roi:
        """A rectangle given in ems."""
        left, top = round(x * em), round(y * em)
        return Roi(left, top, max(1, round(right * em) - left), max(1, round(bottom * em) - top))

    vessels = vessels and VESSEL in result.segmentation.others
    if beside:
        full = width / em
        middle = 20.6 if vessels else 18.4
        places = (
            area(1, 1, full - 1, 8),
            area(1, 9, full - 1, middle),
            area(1, middle + 0.8, full - 1, 29.7),
        )
        clock, notice = area(1, 30, full - 1, 31.5), area(1, 31.9, full - 1, 33.4)
    else:
        left, right = (24.5, 50.5) if vessels else (27.5, 46.5)
        places = (area(1, 1, left - 1.5, 10.4), area(left, 1, right, 10.4), area(right + 1.5, 1, 71, 10.4))
        clock, notice = area(1, 11, 26, 12.5), area(27.5, 11, 71, 12.5)
    state, figures, table = places
    canvas[state.y : state.y + state.height, state.x : state.x + state.width] = _state_card(
        result.state, state.height, state.width
    )
    columns = 3 if vessels and not beside else 2
    _draw_figures(canvas, figures, result, fps, columns=columns, vessels=vessels)
    _draw_table(canvas, table, stages, rows=6 if beside else 5)
    _draw_line(canvas, clock, _clock_text(result), right=False)
    _draw_line(canvas, notice, DISCLAIMER, right=not beside)


@lru_cache(maxsize=8)
def _card(height: int, width: int, colour: Colour) -> Image:
    """An area of one colour; copying it is many times faster than filling a canvas with three values."""
    card = np.full((height, width, 3), colour, np.uint8)
    card.flags.writeable = False
    return card


def _draw_line(canvas: Image, place: Roi, text: str, *, right: bool) -> None:
    size = fit_size(text, round(place.height * 0.8), place.width)
    x = place.x + place.width if right else place.x
    baseline = place.y + round((place.height + size * CAP_HEIGHT) / 2)
    put_text(canvas, text, x, baseline, size, colour=DIM, background=BACKGROUND, right=right)


def _clock_text(result: Result) -> str:
    frame = f"frame {result.frame.index}"
    seconds = result.frame.pts_seconds
    if seconds is None:
        return frame
    minutes, rest = divmod(round(abs(seconds) * 1000), 60_000)
    return f"{frame}   {'-' if seconds < 0 else ''}{minutes}:{rest / 1000:06.3f}"


@lru_cache(maxsize=16)
def _state_card(state: State, height: int, width: int) -> Image:
    """The state as a symbol and words. Every state has its own shape, so that colour is not needed."""
    background, ink = state_colours(state)
    card = np.full((height, width, 3), background, np.uint8)
    radius = min(height * 0.30, width * 0.10)
    centre = (max(height * 0.5, radius * 1.5) if width > 2 * height else radius * 1.6, height / 2)
    draw_symbol(card, state, centre, radius, ink)
    words = _lines(STATE_WORDS[state])
    left = round(centre[0] + radius * 1.5)
    room = max(1, width - left - round(radius * 0.6))
    size = min(
        fit_size(word, round(height * (0.62 if len(words) == 1 else 0.44)), room, bold=True) for word in words
    )
    pitch = round(size * 1.05)
    first = round((height - pitch * (len(words) - 1) + size * CAP_HEIGHT) / 2)
    for row, word in enumerate(words):
        put_text(card, word, left, first + row * pitch, size, colour=ink, background=background, bold=True)
    card.flags.writeable = False
    return card


def _lines(words: str) -> list[str]:
    """Split into one line, or two of about the same length."""
    cuts = [place for place, letter in enumerate(words) if letter == " "]
    if len(words) <= 8 or not cuts:
        return [words]
    cut = min(cuts, key=lambda place: max(place, len(words) - place))
    return [words[:cut], words[cut + 1 :]]


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure below its name."""

    name: str
    value: str
    unit: str = ""
    power: str = ""
    """Exponent of the unit."""
    line: Line | None = None
    """The line whose sample is drawn before the name."""


def _draw_figures(
    canvas: Image, place: Roi, result: Result, fps: float | None, *, columns: int, vessels: bool
) -> None:
    """Draw figures in ``columns``, each below its name; those of nerve and vessel with samples of their lines
    where an image may have both."""
    found = result.segmentation
    confidence = _Figure("confidence", f"{100 * found.confidence:.0f}", "%")
    if result.state is State.UNLIKE_TRAINING:
        confidence = _Figure("confidence", NOTHING)
    nerve_line = NERVE_LINES.get(result.state, NERVE_LINES[State.NERVE]) if vessels else None
    figures = [confidence, _Figure("nerve area", *_area_text(found), nerve_line)]
    if vessels:
        apart_mm = nerve_vessel_distance_mm(found, result.frame.spacing_mm)
        apart = (NOTHING,) if apart_mm is None else (number(apart_mm), "mm")
        figures += [
            _Figure("vessel area", *_area_text(found.others[VESSEL]), VESSEL_LINE),
            _Figure("nerve to vessel", *apart),
        ]
    figures += [
        _Figure("frame rate", NOTHING) if fps is None else _Figure("frame rate", number(fps), "fps"),
        _Figure("frame age", number(result.age_ns / 1e6), "ms"),
    ]
    width, height = place.width // columns, columns * place.height // len(figures)
    for position, figure in enumerate(figures):
        row, column = divmod(position, columns)
        cell = Roi(place.x + column * width, place.y + row * height, max(1, width), max(1, height))
        _draw_figure(canvas, cell, figure)


def _draw_figure(canvas: Image, cell: Roi, figure: _Figure) -> None:
    x, y, width, height = cell.x, cell.y, cell.width, cell.height
    name_size = round(height * 0.24)
    left = x
    if figure.line is not None:
        place = Roi(x, y, round(1.5 * name_size), max(3, round(height * 0.3)))
        draw_line_sample(canvas, place, figure.line, max(2, round(name_size / 9)), BACKGROUND)
        left += round(1.8 * name_size)
    label = fit_size(figure.name, name_size, x + width - left - 4)
    size = round(height * 0.52)
    put_text(canvas, figure.name, left, y + round(height * 0.22), label, colour=DIM, background=BACKGROUND)
    baseline = y + round(height * 0.76)
    unit_width = text_width(f" {figure.unit}{figure.power}", round(size * 0.5)) if figure.unit else 0
    size = fit_size(figure.value, size, width - unit_width - 4)
    end = put_text(canvas, figure.value, x, baseline, size, colour=INK, background=BACKGROUND, bold=True)
    small = round(height * 0.26)
    end = put_text(canvas, f" {figure.unit}", end, baseline, small, colour=INK, background=BACKGROUND)
    raised = baseline - round(small * 0.32)
    put_text(canvas, figure.power, end, raised, round(small * 0.7), colour=INK, background=BACKGROUND)


def _area_text(found: Structure) -> tuple[str, str, str]:
    """The area as number, unit and exponent of the unit."""
    if not found.area_px:
        return NOTHING, "", ""
    if found.area_mm2 is None:
        return str(found.area_px), "px", ""
    return number(found.area_mm2), "mm", "2"


def number(value: float) -> str:
    """Format with one decimal if small, none if large; a dash for what was never measured."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def _draw_table(canvas: Image, place: Roi, stages: Mapping[str, Percentiles], *, rows: int) -> None:
    """Draw latencies per stage: a header and up to ``rows`` stages; the last row counts those left out."""
    pitch = place.height / (rows + 1)
    size = max(6, round(pitch * 0.62))
    edges = [place.x + round(place.width * part) for part in (0.60, 0.80, 1.0)]

    def write(row: int, name: str, values: tuple[str, ...], colour: Colour) -> None:
        baseline = place.y + round((row + 0.5) * pitch + size * CAP_HEIGHT / 2)
        name_size = fit_size(name, size, round(place.width * 0.42))
        put_text(canvas, name, place.x, baseline, name_size, colour=DIM, background=BACKGROUND)
        for text, edge in zip(values, edges, strict=True):
            value_size = fit_size(text, size, round(place.width * 0.19))
            put_text(
                canvas, text, edge, baseline, value_size, colour=colour, background=BACKGROUND, right=True
            )

    write(0, "stage, ms", ("p50", "p95", "p99"), DIM)
    rule = place.y + round(pitch) - 1
    canvas[rule : rule + max(1, round(pitch / 24)), place.x : place.x + place.width] = CARD
    shown = list(stages.items())
    left_out = len(shown) - rows
    if left_out > 0:
        shown = shown[: rows - 1]
    for row, (name, times) in enumerate(shown, start=1):
        write(row, name, tuple(number(ms) for ms in (times.p50_ms, times.p95_ms, times.p99_ms)), INK)
    if left_out > 0:
        write(rows, f"and {left_out + 1} more", ("", "", ""), INK)
