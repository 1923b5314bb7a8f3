"""What a run may be trained on: a folder of labelled images, or phantoms drawn for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from streamseg.core.errors import UsageError
from streamseg.core.files import write_whole
from streamseg.datasets import Dataset, open_dataset
from streamseg.training.data import phantom_samples

PHANTOMS = 200
"""Phantoms drawn where no number is given."""
PHANTOM_SEED = 80_000_000
"""First phantom seed; far from those mixed into training and from the default weights'."""


def phantom_count(data: str) -> int | None:
    """How many phantoms ``phantom`` or ``phantom:N`` asks for; None where the data is a folder.

    Raises UsageError.
    """
    word, colon, number = data.partition(":")
    if word != "phantom":
        return None
    if not colon:
        return PHANTOMS
    if not number.isascii() or not number.isdigit() or int(number) < 2:
        raise UsageError(f"data {data!r} is no number of phantoms; give phantom:N with N of 2 or more")
    return int(number)


def open_training_data(data: str, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> Dataset:
    """The data set in a folder, or phantoms, which are drawn once into ``folder/phantom``.

    Raises UsageError, DataError for a bad folder, SinkError where phantoms cannot be written.
    """
    count = phantom_count(data)
    if count is None:
        return open_dataset(data)
    return draw_phantoms(folder / "phantom", count, say)


def draw_phantoms(folder: Path, count: int, say: Callable[[str], None]) -> Dataset:
    """Phantom stills with and without nerve as images and masks (0, 1 nerve, 2 vessel); draws what lacks."""
    for number in range(count):
        image, mask = (folder / part / f"{number:05d}.png" for part in ("images", "masks"))
        if image.exists() and mask.exists():
            continue
        if number % 50 == 0:
            say(f"drawing phantom {number + 1} of {count}")
        (sample,) = phantom_samples(1, seed=PHANTOM_SEED + number)
        classes = sample.nerve.astype(np.uint8)
        if sample.vessel is not None:
            classes[sample.vessel & ~sample.nerve] = 2
        for path, picture in ((mask, classes), (image, sample.image)):
            write_whole(path, cv2.imencode(".png", picture)[1].tobytes())
    return open_dataset(folder)[:count]
