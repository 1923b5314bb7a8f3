"""Draws the live display's panel: the figures of the frame shown and those of the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from streamseg.core.latency import Percentiles
from streamseg.core.outline_distance import nerve_vessel_distance_mm
from streamseg.core.spec import VESSEL
from streamseg.core.types import Image, Roi, State, Structure
from streamseg.core.view import Figures, View, recorded_time
from streamseg.render.live.layout import Layout
from streamseg.render.live.style import LiveStyle
from streamseg.render.overlay import NERVE_LINES, VESSEL_LINE, Line, draw_line_sample
from streamseg.render.replay_panel import BACKGROUND, DIM, NOTHING, number
from streamseg.render.symbols import CARD, INK
from streamseg.render.text import CAP_HEIGHT, Colour, changing_width, fit_size, put_changing, put_text

_AGE, _CONFIDENCE, _DEPTH = "frame age", "confidence", "image depth"
_NERVE_AREA, _VESSEL_AREA, _DISTANCE = "nerve area", "vessel area", "nerve to vessel"
_MAIN = (_AGE, _NERVE_AREA, _CONFIDENCE, _DEPTH)
_MAIN_WITH_VESSELS = (_AGE, _CONFIDENCE, _NERVE_AREA, _VESSEL_AREA, _DISTANCE, _DEPTH)
_RATES = ("offered", "segmented")
_COUNTS = ("frames offered", "segmented", "dropped", "reconnects")
_ROWS = 5
_CLOCKS = {
    "driver": "ages are measured from the grabber's time stamp",
    "arrival": "ages are measured from arrival at this computer",
}
_RED: Colour = (60, 60, 255)
UNKNOWN, OFF = "unknown", "off"
_SAMPLE = 1.5
"""Length of a line's sample beside its name, in sizes of the letters."""


class Panel:
    """The blocks of figures in one layout."""

    def __init__(self, layout: Layout, *, vessels: bool = False) -> None:
        """``vessels``: the engine outlines them. Then the figures name them, with samples of the lines."""
        place = layout.panel
        self._vessels = vessels
        self._main = _MAIN_WITH_VESSELS if vessels else _MAIN
        if layout.beside:
            self._unit = min(place.width / 540, place.height / 866)
            blocks = ((24, 14, 492, 362), (24, 384, 492, 142), (24, 536, 492, 232))
            lines = ((24, 776, 492, 40), (24, 822, 492, 30))
            if vessels:
                blocks = ((24, 10, 492, 416), (24, 430, 492, 122), (24, 558, 492, 214))
        else:
            self._unit = min(place.width / 1280, place.height / 292)
            blocks = ((24, 6, 570, 240), (618, 6, 240, 240), (886, 6, 370, 240))
            lines = ((24, 250, 570, 36), (618, 250, 638, 36))
            if vessels:
                blocks = ((24, 6, 624, 240), (664, 6, 222, 240), (900, 6, 356, 240))
                lines = ((24, 250, 624, 36), (664, 250, 592, 36))
        stretch = place.width / self._unit / (540 if layout.beside else 1280)
        self.figures, self.counts, self.table = (self._place(place, block, stretch) for block in blocks)
        self.recording, self.clock = (self._place(place, line, stretch) for line in lines)
        self._wide = not layout.beside

    def _place(self, panel: Roi, block: tuple[int, int, int, int], stretch: float) -> Roi:
        x, y, width, height = block
        u = self._unit
        return Roi(
            panel.x + round(x * u * stretch),
            panel.y + round(y * u),
            max(1, round(width * u * stretch)),
            max(1, round(height * u)),
        )

    def draw_labels(self, canvas: Image) -> None:
        """Draw what never changes: names and the table's header."""
        names = (*self._main, *_RATES)
        for cell, name in zip(self._figure_cells(), names, strict=True):
            self._label(canvas, cell, name)
        for cell, name in zip(_cells(self.counts, 1, len(_COUNTS)), _COUNTS, strict=True):
            size = fit_size(
                name, max(7, round(min(cell.height * 0.72, 29 * self._unit))), round(cell.width * 0.58)
            )
            baseline = cell.y + round(cell.height * 0.72)
            put_text(canvas, name, cell.x, baseline, size, colour=DIM, background=BACKGROUND)
        self._row(canvas, 0, "times, ms", ("p50", "p95", "p99"), DIM)
        rule = self.table.y + round(self.table.height / (_ROWS + 1)) - 1
        canvas[rule : rule + max(1, round(self._unit)), self.table.x : self.table.x + self.table.width] = CARD

    def draw_frame(self, canvas: Image, view: View, age_ns: int | None, style: LiveStyle) -> None:
        """Draw the figures of the frame shown, and samples of the lines of its outlines."""
        figures: dict[str, Callable[[], tuple[str, str]]] = {
            _AGE: lambda: _age(age_ns),
            _CONFIDENCE: lambda: _confidence(view),
            _NERVE_AREA: lambda: _area(view, view.segmentation),
            _DEPTH: lambda: _depth(view),
            _VESSEL_AREA: lambda: _area(view, _vessel(view)) if style.vessels else (OFF, ""),
            _DISTANCE: lambda: _distance(view) if style.vessels else (OFF, ""),
        }
        for cell, name in zip(self._figure_cells(), self._main, strict=False):
            self._value(canvas, cell, *figures[name](), bold=True)
            if self._vessels and name in (_NERVE_AREA, _VESSEL_AREA):
                self._sample(canvas, cell, _line(view, name, style))

    def draw_run(self, canvas: Image, figures: Figures) -> None:
        """Draw the figures of the run: rates, counts, percentiles, recording."""
        for cell, fps in zip(
            self._figure_cells()[len(self._main) :], (figures.offered_fps, figures.processed_fps), strict=True
        ):
            known = fps is not None and math.isfinite(fps)
            self._value(
                canvas, cell, number(fps) if fps is not None else NOTHING, "fps" if known else "", bold=True
            )
        counts = (figures.offered, figures.processed, figures.dropped, figures.reconnects)
        for cell, count in zip(_cells(self.counts, 1, len(_COUNTS)), counts, strict=True):
            room = round(cell.width * 0.4)
            place = Roi(cell.x + cell.width - room, cell.y, room, cell.height)
            _write_line(canvas, place, f"{count:,}".replace(",", " "), INK, 0.76, right=True)
        rows: dict[str, Percentiles | None] = {"age shown": figures.age, **figures.stages}
        for line, (name, times) in enumerate(list(rows.items())[:_ROWS], start=1):
            values = (math.nan,) * 3 if times is None else (times.p50_ms, times.p95_ms, times.p99_ms)
            self._row(canvas, line, name, tuple(map(number, values)), INK)
        self._draw_recording(canvas, figures.recording)
        clock = _CLOCKS.get(figures.clock, f"ages are measured from: {figures.clock}")
        _write_line(canvas, self.clock, clock, DIM, 0.76)

    def _figure_cells(self) -> list[Roi]:
        pairs = (len(self._main) + len(_RATES)) // 2
        return _cells(self.figures, *(pairs, 2) if self._wide else (2, pairs))

    def _label_size(self, cell: Roi) -> int:
        return max(7, round(min(26 * self._unit, cell.height * 0.34)))

    def _label(self, canvas: Image, cell: Roi, text: str) -> None:
        size = self._label_size(cell)
        left = cell.x
        if self._vessels and text in (_NERVE_AREA, _VESSEL_AREA):
            left += round(size * (_SAMPLE + 0.3))
        size = fit_size(text, size, cell.x + cell.width - left - 4)
        put_text(canvas, text, left, cell.y + size, size, colour=DIM, background=BACKGROUND)

    def _sample(self, canvas: Image, cell: Roi, line: Line | None) -> None:
        """Draw a sample of an outline's line before a figure's name; None: nothing."""
        size = self._label_size(cell)
        place = Roi(cell.x, cell.y + round(size * (1 - CAP_HEIGHT)), round(size * _SAMPLE), max(3, size))
        if line is not None:
            width = max(2, round(size / 9))
            draw_line_sample(canvas, place, line, width, BACKGROUND)

    def _value(self, canvas: Image, cell: Roi, text: str, unit: str, *, bold: bool) -> None:
        """Replace a figure and its unit under its label."""
        top = cell.y + max(round(cell.height * 0.36), round(min(43 * self._unit, cell.height * 0.42)))
        canvas[top : cell.y + cell.height, cell.x : cell.x + cell.width] = BACKGROUND
        max_size = max(7, round(min(62 * self._unit, (cell.height - (top - cell.y)) * 0.9)))
        unit = f" {unit}" if unit else ""
        whole = changing_width(text, max_size, bold=bold) + changing_width(unit, max_size // 2)
        size = max(6, min(max_size, int(max_size * cell.width * 0.9 / max(1, whole))))
        baseline = top + round(size * (CAP_HEIGHT + 0.1))
        ink = DIM if text in (UNKNOWN, OFF) else INK
        end = put_changing(canvas, text, cell.x, baseline, size, colour=ink, background=BACKGROUND, bold=bold)
        name, _, power = unit.partition("2")
        small = max(6, size // 2)
        end = put_changing(canvas, name, end, baseline, small, colour=INK, background=BACKGROUND)
        if unit.endswith("2"):
            raised = baseline - round(small * 0.32)
            put_text(
                canvas,
                "2" + power,
                end,
                raised,
                max(6, round(small * 0.7)),
                colour=INK,
                background=BACKGROUND,
            )

    def _row(self, canvas: Image, line: int, name: str, values: tuple[str, ...], colour: Colour) -> None:
        place, pitch = self.table, self.table.height / (_ROWS + 1)
        top = place.y + round(line * pitch)
        baseline = top + round(pitch * 0.70)
        size = max(7, round(min(pitch * 0.66, 30 * self._unit)))
        if line:
            canvas[top : top + round(pitch), place.x : place.x + place.width] = BACKGROUND
        name_size = fit_size(name, size, round(place.width * 0.44))
        put_text(canvas, name, place.x, baseline, name_size, colour=DIM, background=BACKGROUND)
        for text, part in zip(values, (0.63, 0.82, 1.0), strict=True):
            room = round(place.width * 0.18)
            fitted = max(6, min(size, int(size * room / max(1, changing_width(text, size)))))
            edge = place.x + round(place.width * part)
            put_changing(
                canvas, text, edge, baseline, fitted, colour=colour, background=BACKGROUND, right=True
            )

    def _draw_recording(self, canvas: Image, recording: str | None) -> None:
        """Draw a filled disc and REC while recording; an empty square and the reason after it stopped."""
        place = self.recording
        place.crop(canvas)[:] = BACKGROUND
        if recording is None:
            return
        time = recorded_time(recording)
        side = round(place.height * 0.6)
        top = place.y + (place.height - side) // 2
        mark = _square(side) if time is None else _disc(side)
        room = canvas[top : top + side, place.x : place.x + side]
        np.copyto(room, mark[: room.shape[0], : room.shape[1]])
        left = place.x + round(side * 1.5)
        text = recording if time is None else f"REC  {time}"
        line = Roi(left, place.y, max(1, place.width - (left - place.x)), place.height)
        _write_line(canvas, line, text.strip(), INK, 0.8)


@lru_cache(maxsize=4)
def _disc(side: int) -> Image:
    middle = (side - 1) / 2
    far = np.hypot(*np.meshgrid(*[np.arange(side) - middle] * 2))
    ink = np.clip(side / 2 - far, 0, 1)[..., None]
    blended = np.round(ink * np.array(_RED) + (1 - ink) * np.array(BACKGROUND))
    return np.asarray(blended, np.uint8)


@lru_cache(maxsize=4)
def _square(side: int) -> Image:
    tile = np.full((side, side, 3), INK, np.uint8)
    edge = max(1, side // 6)
    tile[edge:-edge, edge:-edge] = BACKGROUND
    return tile


def _cells(place: Roi, columns: int, rows: int) -> list[Roi]:
    """Split a rectangle into cells, row by row."""
    width, height = place.width // columns, place.height // rows
    return [
        Roi(place.x + column * width, place.y + row * height, max(1, width), max(1, height))
        for row in range(rows)
        for column in range(columns)
    ]


def _write_line(
    canvas: Image, place: Roi, text: str, colour: Colour, share: float, *, right: bool = False
) -> None:
    """Replace a line of text; its size is ``share`` of the height, or less if the width demands it."""
    size = max(7, round(place.height * share))
    size = max(6, min(size, int(size * place.width / max(1, changing_width(text, size)))))
    place.crop(canvas)[:] = BACKGROUND
    baseline = place.y + round((place.height + size * CAP_HEIGHT) / 2)
    x = place.x + place.width if right else place.x
    put_changing(canvas, text, x, baseline, size, colour=colour, background=BACKGROUND, right=right)


def _age(age_ns: int | None) -> tuple[str, str]:
    if age_ns is None:
        return NOTHING, ""
    ms = max(0, age_ns) / 1e6
    return (f"{ms:.0f}", "ms") if ms < 9999.5 else (f"{ms / 1000:.0f}", "s")


def _vessel(view: View) -> Structure | None:
    return None if view.segmentation is None else view.segmentation.others.get(VESSEL)


def _line(view: View, name: str, style: LiveStyle) -> Line | None:
    """The line in which an outline is drawn, or would be if there was one; None if it is switched off."""
    if not style.overlay:
        return None
    if name == _VESSEL_AREA:
        return VESSEL_LINE if style.vessels else None
    state = State.NERVE if view.segmentation is None else view.segmentation.state
    return NERVE_LINES.get(state, NERVE_LINES[State.NERVE])


def _area(view: View, found: Structure | None) -> tuple[str, str]:
    if view.frame is not None and view.frame.spacing_mm is None:
        return UNKNOWN, ""
    if found is None or not found.area_px or found.area_mm2 is None:
        return NOTHING, ""
    return number(found.area_mm2), "mm2"


def _distance(view: View) -> tuple[str, str]:
    """Between the outlines of nerve and vessel where they are closest."""
    if view.frame is not None and view.frame.spacing_mm is None:
        return UNKNOWN, ""
    if view.frame is None or view.segmentation is None:
        return NOTHING, ""
    apart_mm = nerve_vessel_distance_mm(view.segmentation, view.frame.spacing_mm)
    return (NOTHING, "") if apart_mm is None else (number(apart_mm), "mm")


def _confidence(view: View) -> tuple[str, str]:
    if view.segmentation is None or view.state is State.UNLIKE_TRAINING:
        return NOTHING, ""
    return f"{100 * view.segmentation.confidence:.0f}", "%"


def _depth(view: View) -> tuple[str, str]:
    """Depth of the image region."""
    if view.frame is None or view.roi is None:
        return NOTHING, ""
    if view.frame.spacing_mm is None:
        return UNKNOWN, ""
    return number(view.roi.height * view.frame.spacing_mm[0]), "mm"
