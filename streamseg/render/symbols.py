"""A symbol, words and a colour for each state; shape and words alone tell the states apart.

The colours are from the palette of Okabe and Ito, which colour-blind people can tell apart. None is green: no
state promises that all is well.
"""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.core.types import Image, State
from streamseg.render.overlay import STATE_COLOURS
from streamseg.render.text import Colour

HELD = "display frozen"
"""Sign of a display that its user froze: not a State, but with words, symbol and colour like one."""

BLACK: Colour = (12, 12, 12)
INK: Colour = (245, 245, 245)
CARD: Colour = (58, 50, 46)
_BLUE: Colour = (178, 114, 0)

STATE_WORDS: dict[str, str] = {
    State.NERVE: "NERVE",
    State.NO_NERVE: "NO NERVE",
    State.LOW_CONFIDENCE: "LOW CONFIDENCE",
    State.UNLIKE_TRAINING: "UNLIKE TRAINING DATA",
    State.LAGGING: "SEGMENTATION LAGGING",
    State.SLOW: "SOURCE SLOW",
    State.FROZEN: "SCANNER FROZEN",
    State.SOURCE_LOST: "SOURCE LOST",
    State.STARTING: "STARTING",
    State.ENDED: "SOURCE ENDED",
    HELD: "DISPLAY FROZEN",
}
_DARK_CARDS = (State.NO_NERVE, State.STARTING, State.ENDED)
_BITS = 4


def state_colours(sign: str) -> tuple[Colour, Colour]:
    """Background and text colour of a state's card; ``sign`` is a State or HELD."""
    if sign in _DARK_CARDS:
        return CARD, INK
    if sign == HELD:
        return _BLUE, INK
    return STATE_COLOURS[State(sign)], INK if sign == State.FROZEN else BLACK


def draw_symbol(card: Image, sign: str, centre: tuple[float, float], radius: float, ink: Colour) -> None:
    """Draw the symbol of a state (or HELD) into a BGR canvas; ``centre`` (x, y) and ``radius`` in pixels.

    Nerve: a dot in a ring. No nerve: a crossed ring. Low confidence: a triangle with an exclamation mark.
    Unlike the training data: a crossed square. Lagging: a clock. Source slow: an hourglass. Scanner
    frozen: two bars. Source lost: a cross. Starting: three dots. Source ended: a square. Display frozen: two
    bars in a ring.
    """
    _Pen(card, centre, radius, ink).draw(sign)


class _Pen:
    """Draws shapes in units of the symbol's radius around its centre."""

    def __init__(self, card: Image, centre: tuple[float, float], radius: float, ink: Colour) -> None:
        self._card, self._centre, self._radius, self._ink = card, centre, radius, ink
        self._thick = max(1, round(radius * 0.22))

    def draw(self, sign: str) -> None:
        {
            State.NERVE: self._nerve,
            State.NO_NERVE: self._no_nerve,
            State.LOW_CONFIDENCE: self._warning,
            State.UNLIKE_TRAINING: self._crossed_square,
            State.LAGGING: self._clock,
            State.SLOW: self._hourglass,
            State.FROZEN: self._bars,
            State.SOURCE_LOST: self._cross,
            State.STARTING: self._dots,
            State.ENDED: self._square,
            HELD: self._held,
        }[sign]()

    def _nerve(self) -> None:
        self._disc(0, 0, 1)
        self._disc(0, 0, 0.5, filled=True)

    def _no_nerve(self) -> None:
        self._disc(0, 0, 1)
        self._line(-0.71, 0.71, 0.71, -0.71)

    def _warning(self) -> None:
        corners = np.array([self._at(0, -1), self._at(1.1, 0.85), self._at(-1.1, 0.85)], np.int32)
        cv2.polylines(
            self._card, [corners.reshape(-1, 1, 2)], True, self._ink, self._thick, cv2.LINE_AA, _BITS
        )
        self._line(0, -0.35, 0, 0.22)
        self._disc(0, 0.55, 0.13, filled=True)

    def _crossed_square(self) -> None:
        cv2.rectangle(
            self._card, self._at(-0.9, -0.9), self._at(0.9, 0.9), self._ink, self._thick, cv2.LINE_AA, _BITS
        )
        for side in (-1, 1):
            self._line(-0.45, side * 0.45, 0.45, -side * 0.45)

    def _clock(self) -> None:
        self._disc(0, 0, 1)
        self._line(0, -0.6, 0, 0)
        self._line(0, 0, 0.42, 0.3)

    def _hourglass(self) -> None:
        for y in (-0.9, 0.9):
            self._line(-0.7, y, 0.7, y)
            self._line(-0.7, y, 0.7, -y)

    def _square(self) -> None:
        for x in (-0.7, 0.7):
            self._line(x, -0.7, x, 0.7)
            self._line(-0.7, x, 0.7, x)

    def _bars(self, reach: float = 0.9, wide: float = 1.9) -> None:
        for side in (-1, 1):
            self._line(side * reach / 2.2, -reach, side * reach / 2.2, reach, wide)

    def _cross(self) -> None:
        for side in (-1, 1):
            self._line(-0.8, side * 0.8, 0.8, -side * 0.8, 1.7)

    def _dots(self) -> None:
        for x in (-0.75, 0, 0.75):
            self._disc(x, 0, 0.22, filled=True)

    def _held(self) -> None:
        self._disc(0, 0, 1)
        self._bars(0.48, 0.9)

    def _at(self, dx: float, dy: float) -> tuple[int, int]:
        (x, y), r = self._centre, self._radius
        return round((x + dx * r) * (1 << _BITS)), round((y + dy * r) * (1 << _BITS))

    def _line(self, x: float, y: float, to_x: float, to_y: float, wide: float = 1.0) -> None:
        thick = max(1, round(self._thick * wide))
        cv2.line(self._card, self._at(x, y), self._at(to_x, to_y), self._ink, thick, cv2.LINE_AA, _BITS)

    def _disc(self, dx: float, dy: float, size: float, *, filled: bool = False) -> None:
        radius = round(size * self._radius * (1 << _BITS))
        line = cv2.FILLED if filled else self._thick
        cv2.circle(self._card, self._at(dx, dy), radius, self._ink, line, cv2.LINE_AA, _BITS)
