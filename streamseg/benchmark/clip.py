"""The frames that benchmarks run on: a recorded clip, or a phantom clip that is encoded and decoded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from streamseg.capture import open_source
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Frame, Image, Roi, SourceInfo
from streamseg.phantom import PhantomVideo
from streamseg.sinks.encoder import Encoder
from streamseg.sinks.target import Target

SEED, RATE = 3, 30
"""Of the phantom clip."""
SCREEN = (768, 1024)
"""Height and width of the phantom clip: the screen of a machine."""
REGION = Roi(222, 130, 580, 420)
"""The ultrasound image in it."""
TURNS = 4
"""Number of times that the phantom clip runs through its frames, forwards and backwards."""
_USUAL_RATE = 25.0


@dataclass(frozen=True, slots=True, repr=False)
class Clip:
    """A recorded clip, with its first frames in memory."""

    uri: str
    """For :func:`streamseg.capture.open_source`."""
    name: str
    """Without folders, which may name a patient."""
    frames: tuple[Frame, ...]
    """The first ones, decoded; at least one, all of one size."""
    roi: Roi | None
    """The ultrasound image in them; None is the whole frame."""
    synthetic: bool
    rate: float | None
    """Nominal frames per second, if known."""

    @property
    def pace(self) -> float:
        """Frames per second at which its frames have their own times: the nominal rate, or 25."""
        return self.rate or _USUAL_RATE

    def __repr__(self) -> str:
        return f"Clip({self.name}, {len(self.frames)} frames in memory, roi={self.roi})"

    def to_json(self) -> dict[str, Any]:
        """The description of the clip in a result."""
        height, width = self.frames[0].shape
        return {
            "name": self.name,
            "synthetic": self.synthetic,
            "width": width,
            "height": height,
            "roi": None if self.roi is None else str(self.roi),
            "rate": None if self.rate is None else round(self.rate, 3),
            "frames_in_memory": len(self.frames),
        }


def open_clip(source: str | None, folder: Path, *, frames: int = 64) -> Clip:
    """Open the recorded clip ``source``; for None a phantom clip, which is written to ``folder/phantom.mp4``
    (H.264, a machine's screen of 1024x768 with the phantom in it).

    At most the first ``frames`` frames are kept, up to where the clip changes its size. Raises UsageError and
    SourceError as :func:`streamseg.capture.open_source` does, and SourceError for a clip without a frame.
    """
    if frames < 1:
        raise UsageError(f"a clip cannot have {frames} frames; ask for 1 or more")
    if source is None:
        path = folder / "phantom.mp4"
        _render(path, frames)
        return _read(str(path), frames, synthetic=True, roi=REGION)
    synthetic = source.startswith("phantom:")
    return _read(source, frames, synthetic=synthetic, roi=None)


def _read(uri: str, count: int, *, synthetic: bool, roi: Roi | None) -> Clip:
    """The clip's first frames, and where its image is."""
    kept: list[Frame] = []
    with open_source(uri) as source:
        info = source.info
        try:
            for frame in islice(source, count):
                if kept and frame.shape != kept[0].shape:
                    break
                kept.append(frame)
        except SourceError:
            if not kept:
                raise
    if not kept:
        raise SourceError(f"{info.name} holds no frame; give a clip that has some")
    if roi is None:
        roi = ImageRegion.of_recording(info, partial(open_source, uri), search=not synthetic).roi
    rate = None if info.rate is None else float(info.rate)
    return Clip(uri, info.name, tuple(kept), roi, synthetic, rate)


def _render(path: Path, count: int) -> None:
    """Write the phantom clip, forwards and backwards, so that no frame differs much from the last."""
    video = PhantomVideo(SEED, height=REGION.height, width=REGION.width, fps=RATE, nerve=True)
    screen = _screen()
    images = []
    for number in range(count):
        image = screen.copy()
        REGION.crop(image)[:] = video.frame(number).image[..., None]
        images.append(image)
    encoder = Encoder(Target(path, force=True), *SCREEN, Fraction(1, RATE), Fraction(RATE))
    there_and_back = cycle(images + images[::-1])
    for number, image in enumerate(islice(there_and_back, TURNS * count)):
        encoder.encode(image, Fraction(number, RATE))
    encoder.close()


def _screen() -> Image:
    """A machine's screen without the image: bars, words, and something that has a colour."""
    screen = np.full((*SCREEN, 3), (34, 30, 28), np.uint8)
    ink, accent = (200, 200, 200), (60, 170, 235)
    cv2.rectangle(screen, (0, 0), (SCREEN[1] - 1, 60), (70, 52, 40), -1)
    cv2.rectangle(screen, (0, SCREEN[0] - 90), (SCREEN[1] - 1, SCREEN[0] - 1), (52, 46, 42), -1)
    words = {
        "PHANTOM": (24, 40), "MI 0.9  TIb 0.3": (760, 40), "Gain 54": (840, 200),
        "Depth 4.0 cm": (840, 240), "12 MHz": (840, 280), "Freeze": (60, 730), "Save": (220, 730),
    }  # fmt: skip
    for text, place in words.items():
        cv2.putText(screen, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, 1, cv2.LINE_AA)
    cv2.circle(screen, (200, 150), 9, accent, -1)
    for mark in range(9):
        cv2.line(screen, (812, 130 + mark * 52), (820, 130 + mark * 52), accent, 1)
    return np.asarray(screen, np.uint8)


class Closing:
    """A source whose ``with`` block closes it; a base class."""

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class FrameSource(Closing):
    """A recorded source that offers frames from memory, over and over, and costs nothing to read.

    Frame k has the index k and the time k / fps seconds; it was captured when it was asked for.
    """

    live = False

    def __init__(self, frames: Sequence[Frame], fps: float, count: int | None = None) -> None:
        """``count`` frames, or for ever. Raises UsageError for no frame, or an impossible rate."""
        if not frames or not 0 < fps < float("inf"):
            raise UsageError(f"no source: {len(frames)} frames at {fps} per second; give some of each")
        height, width = frames[0].shape
        self.info = SourceInfo("memory", height, width, rate=Fraction(fps).limit_denominator(1001))
        self._frames, self._fps, self._count = frames, fps, count

    def __iter__(self) -> Iterator[Frame]:
        numbered = enumerate(cycle(self._frames))
        for number, frame in numbered if self._count is None else islice(numbered, self._count):
            yield replace(
                frame, index=number, captured_ns=time.monotonic_ns(), pts_seconds=number / self._fps
            )
