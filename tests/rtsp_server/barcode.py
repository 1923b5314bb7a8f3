"""Pictures that carry a number all over, so that a damaged or patched one is noticed.

The picture is a board of square modules. The first 64 hold the number (48 bits) and a check sum of it; every
other one is black or white as a random generator seeded with the number says. Two numbers differ in half of
all modules, so a picture made of parts of two is none of either.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MODULE = 16
"""Pixels of a module's side: a coded block, so that the pattern survives compression."""
_BLACK, _WHITE = 40, 215
_NUMBER_BITS = 48


def draw(number: int, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    """Grey uint8 (height, width) that shows a number of at most 48 bits; needs 64 modules or more."""
    board = _board(number, height // MODULE, width // MODULE)
    image = np.full((height, width), _BLACK, np.uint8)
    pixels = np.kron(np.where(board, _WHITE, _BLACK).astype(np.uint8), np.ones((MODULE, MODULE), np.uint8))
    image[: pixels.shape[0], : pixels.shape[1]] = pixels
    return image


def read(image: npt.NDArray[np.uint8], tolerance: int = 60) -> int | None:
    """The number that a picture (grey or BGR) shows; None unless all of it shows that number.

    ``tolerance`` is how far, in grey levels, a module's mean may be from what was drawn.
    """
    grey = image if image.ndim == 2 else image.mean(axis=2)
    rows, columns = grey.shape[0] // MODULE, grey.shape[1] // MODULE
    blocks = grey[: rows * MODULE, : columns * MODULE].reshape(rows, MODULE, columns, MODULE)
    levels = blocks.mean(axis=(1, 3))
    bits = (levels > (_BLACK + _WHITE) / 2).ravel()[:64]
    number = sum(int(bit) << place for place, bit in enumerate(bits[:_NUMBER_BITS]))
    if [bool(bit) for bit in bits] != _header(number):
        return None
    expected = np.where(_board(number, rows, columns), _WHITE, _BLACK)
    return number if np.abs(levels - expected).max() <= tolerance else None


def _header(number: int) -> list[bool]:
    check = zlib.crc32(number.to_bytes(6, "little")) & 0xFFFF
    return [bool(number >> bit & 1) for bit in range(_NUMBER_BITS)] + [
        bool(check >> bit & 1) for bit in range(64 - _NUMBER_BITS)
    ]


@lru_cache(maxsize=64)
def _board(number: int, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    if rows * columns < 64 or not 0 <= number < 1 << _NUMBER_BITS:
        raise ValueError(f"{number} does not fit on {columns}x{rows} modules")
    cells = np.random.default_rng(number).integers(0, 2, rows * columns).astype(bool)
    cells[:64] = _header(number)
    return cells.reshape(rows, columns)
