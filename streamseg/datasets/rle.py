"""The run-length encoding of the competition "Ultrasound Nerve Segmentation".

Pixels are numbered from 1, down the first column, then down the second, and so on. A mask is written as pairs
"start length", separated by blanks, in ascending order; an empty mask as the empty text.
"""

from __future__ import annotations

import re

import numpy as np

from streamseg.core.errors import DataError
from streamseg.core.types import Mask

_NUMBER = re.compile(r"[0-9]{1,15}")
"""ASCII digits only, and few enough for 64 bits: int() takes more than the format does."""


def encode(mask: Mask) -> str:
    """The runs of a bool mask (H, W), as long as they can be."""
    column_by_column = np.asarray(mask, np.bool_).ravel(order="F")
    edges = np.flatnonzero(np.diff(column_by_column, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))


def decode(text: str, shape: tuple[int, int]) -> Mask:
    """The bool mask of ``shape`` (H, W) that a text stands for.

    Raises DataError for what is no such text: an odd count, not whole numbers, a start or length below 1,
    runs out of order or overlapping, a run past the last pixel.
    """
    words = text.split()
    bad = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if bad is not None:
        raise DataError(
            f"run-length text holds {bad[:20]!r}; it takes whole numbers, as pairs 'start length'"
        )
    if len(words) % 2:
        raise DataError(
            f"run-length text holds {len(words)} numbers; it takes pairs 'start length', so an even count"
        )
    flat = np.zeros(shape[0] * shape[1], np.bool_)
    end = 0
    for start, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        if length < 1 or start <= end or start + length - 1 > flat.size:
            raise DataError(
                f"run '{start} {length}' does not fit: runs ascend without overlap, the last one ended "
                f"at pixel {end}, and the pixels of {shape[1]}x{shape[0]} are numbered 1 to {flat.size}"
            )
        end = start + length - 1
        flat[start - 1 : end] = True
    return flat.reshape(shape, order="F")
