"""The inverse of the competition's run-length encoding."""

from __future__ import annotations

import numpy as np

from streamseg.core.types import Mask


def decode(text: str, shape: tuple[int, int]) -> Mask:
    """The bool mask of ``shape`` (H, W) that a text stands for; runs must ascend, not overlap, and fit."""
    numbers = [int(word) for word in text.split()]
    flat = np.zeros(shape[0] * shape[1], np.bool_)
    end = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        assert length >= 1
        assert start > end
        end = start + length - 1
        assert end <= flat.size
        flat[start - 1 : end] = True
    return flat.reshape(shape, order="F")
