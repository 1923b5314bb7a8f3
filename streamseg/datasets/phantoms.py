"""Synthetic labelled images in place of a data set: ``phantom`` or ``phantom:N`` instead of a folder.

To train on they are drawn into a folder; to measure on they are rendered as they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from streamseg.core.errors import UsageError
from streamseg.core.files import write_whole
from streamseg.core.types import Say
from streamseg.datasets.reader import NERVE, VESSEL, Dataset, Sample, open_dataset
from streamseg.phantom import render_still
from streamseg.phantom.seeds import DATA_SET, VALIDATION

PHANTOMS = 200
"""Number of phantoms for ``phantom`` without a number."""


def open_or_draw(data: str, folder: Path, *, say: Say = lambda _: None) -> Dataset:
    """The data set in the folder ``data``, or phantoms, which are drawn once into ``folder/phantom``.

    Raises UsageError, DataError for a bad folder, SinkError if phantoms cannot be written.
    """
    count = phantom_count(data)
    return open_dataset(data) if count is None else draw_phantoms(folder / "phantom", count, say)


def open_or_render(data: str) -> Sequence[Sample]:
    """The data set in the folder ``data``, or the phantoms that nets are judged on, which none trains on.

    Raises UsageError, DataError for a bad folder.
    """
    count = phantom_count(data)
    return open_dataset(data) if count is None else RenderedPhantoms(VALIDATION.take(count), count)


class RenderedPhantoms(Sequence[Sample]):
    """Phantom stills of consecutive seeds, each rendered whenever it is asked for."""

    def __init__(self, first: int, count: int) -> None:
        self._seeds = range(first, first + count)

    def __len__(self) -> int:
        return len(self._seeds)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> RenderedPhantoms: ...

    def __getitem__(self, index: int | slice) -> Sample | RenderedPhantoms:
        if isinstance(index, int):
            return next(phantom_samples(1, seed=self._seeds[index]))
        part = RenderedPhantoms(0, 0)
        part._seeds = self._seeds[index]
        return part


def phantom_count(data: str) -> int | None:
    """The number of phantoms that ``phantom`` or ``phantom:N`` asks for; None if the data is a folder.

    Raises UsageError.
    """
    word, colon, number = data.partition(":")
    if word != "phantom":
        return None
    if not colon:
        return PHANTOMS
    if not number.isascii() or not number.isdigit() or int(number) < 2:
        raise UsageError(f"invalid number of phantoms in {data!r}; give phantom:N with N of 2 or more")
    return int(number)


def draw_phantoms(folder: Path, count: int, say: Say) -> Dataset:
    """Phantom stills, with and without nerve, as images and masks; draws those that the folder lacks.

    Raises SinkError, and UsageError for more than ten million.
    """
    first = DATA_SET.take(count)
    for number in range(count):
        image, mask = (folder / part / f"{number:05d}.png" for part in ("images", "masks"))
        if image.exists() and mask.exists():
            continue
        if number % 50 == 0:
            say(f"drawing phantom {number + 1} of {count}")
        (sample,) = phantom_samples(1, seed=first + number)
        classes = sample.nerve.astype(np.uint8) * NERVE
        if sample.vessel is not None:
            classes[sample.vessel & ~sample.nerve] = VESSEL
        for path, pixels in ((mask, classes), (image, sample.image)):
            write_whole(path, cv2.imencode(".png", pixels)[1].tobytes())
    return open_dataset(folder)[:count]


def phantom_samples(count: int, seed: int) -> Iterator[Sample]:
    """Phantom stills of consecutive seeds, a little more than half of them without nerve."""
    for number in range(seed, seed + count):
        still = render_still(number)
        yield Sample(f"phantom-{number}", still.image, still.nerve, still.vessel)
