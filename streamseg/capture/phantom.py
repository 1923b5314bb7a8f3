"""The phantom as a source: ``phantom:?seed=3&frames=200&fps=30&size=580x420&nerve=auto``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from urllib.parse import parse_qsl

from streamseg.capture.base import START_TOLERANCE, RecordedSource, check_start
from streamseg.core.errors import UsageError
from streamseg.core.numbers import read_fraction, read_integer
from streamseg.core.types import Frame, Mask, SourceInfo
from streamseg.phantom import PhantomVideo

NERVE = {"auto": None, "always": True, "never": False}
KEYS = {
    "seed": "a whole number, 0 or more",
    "frames": "a whole number from 1 to 1000000",
    "fps": "a number or fraction from 1 to 1000, such as 30, 29.97 or 30000/1001",
    "size": "WIDTHxHEIGHT, such as 580x420",
    "nerve": "auto (leaves the view and comes back), always or never",
}


class PhantomSource(RecordedSource):
    """A synthetic ultrasound recording with exact ground-truth masks."""

    def __init__(
        self,
        *,
        seed: int = 0,
        frames: int | None = 300,
        fps: Fraction = Fraction(30),
        width: int = 580,
        height: int = 420,
        nerve: bool | None = None,
        start_seconds: float = 0.0,
    ) -> None:
        """Generate the tissue; see :class:`streamseg.phantom.PhantomVideo` for ``seed``, sizes and ``nerve``.

        ``frames`` None: without end. Frame k has the time k / fps seconds. The first delivered frame, with
        index 0, is the first at or after ``start_seconds``. Raises UsageError.
        """
        check_start(start_seconds)
        self._first = max(0, math.ceil((Fraction(start_seconds) - START_TOLERANCE) * fps))
        if frames is not None and self._first >= frames:
            raise UsageError(
                f"phantom of {frames} frames lasts {float(frames / fps):g} s, but the start is at "
                f"{start_seconds:g} s; start earlier or ask for more frames"
            )
        self._video = PhantomVideo(seed, height=height, width=width, fps=float(fps), nerve=nerve)
        self._count = None if frames is None else frames - self._first
        self._time_base = 1 / fps
        info = SourceInfo(
            name=f"phantom-{seed}",
            height=height,
            width=width,
            frame_count=self._count,
            rate=fps,
            time_base=self._time_base,
        )
        super().__init__(info, self._generate(), lambda: None)

    @classmethod
    def from_uri(cls, uri: str, *, start_seconds: float = 0.0, endless: bool = False) -> PhantomSource:
        """Parse ``phantom:`` or ``phantom:?key=value&...``; every key has a default.

        Defaults: seed 0, 300 frames (``endless``: without end), 30 fps, 580x420, nerve auto. Raises
        UsageError naming the key.
        """
        scheme, _, query = uri.partition("?")
        if scheme != "phantom:":
            raise UsageError(f"{uri!r} is not a phantom; write phantom:?seed=3&frames=200")
        values: dict[str, str] = {}
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key not in KEYS:
                raise UsageError(f"phantom has no {key!r}; allowed are {', '.join(KEYS)}")
            if key in values:
                raise UsageError(f"phantom's {key!r} is given twice; give it once")
            values[key] = value
        width, height = _size(values.get("size", "580x420"))
        nerve = values.get("nerve", "auto")
        if nerve not in NERVE:
            raise _wrong("nerve", nerve)
        return cls(
            seed=_whole("seed", values.get("seed", "0"), 0, 10**18 - 1),
            frames=None
            if endless and "frames" not in values
            else _whole("frames", values.get("frames", "300"), 1, 1_000_000),
            fps=_rate(values.get("fps", "30")),
            width=width,
            height=height,
            nerve=NERVE[nerve],
            start_seconds=start_seconds,
        )

    def truth(self, index: int) -> Mask:
        """The exact nerve mask of the frame delivered with this index: bool (height, width)."""
        return self._video.truth(self._first + index)

    def _generate(self) -> Iterator[Frame]:
        for index in count() if self._count is None else range(self._count):
            number = self._first + index
            image = self._video.frame(number).image
            yield Frame(
                image,
                index=index,
                captured_ns=time.monotonic_ns(),
                pts_seconds=float(number * self._time_base),
                spacing_mm=self._video.spacing_mm,
            )


def _wrong(key: str, value: str) -> UsageError:
    return UsageError(f"phantom's {key} is {value!r}; give {KEYS[key]}")


def _whole(key: str, text: str, minimum: int, maximum: int) -> int:
    value = read_integer(text, minimum, maximum)
    if value is None:
        raise _wrong(key, text)
    return value


def _rate(text: str) -> Fraction:
    value = read_fraction(text, 1, 1000)
    if value is None:
        raise _wrong("fps", text)
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise _wrong("size", text)
    return int(width[:9]), int(height[:9])
