"""Data sets on disk, with ``images/`` and ``masks/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_dataset(root: Path, samples: Mapping[str, tuple[Any, Any]]) -> Path:
    """Write images and masks (both uint8) as PNG, by name."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, (image, mask) in samples.items():
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def write_labelled(root: Path, images: int = 6) -> Path:
    """Noise of 60x40 pixels with bright rectangles, every third image without one.

    An image of one number is the same whatever ``images`` is.
    """
    return write_dataset(root, {str(number): _labelled(number) for number in range(images)})


def _labelled(number: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(number)
    image = generator.integers(0, 100, (40, 60), dtype=np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    if number % 3:
        top, left = generator.integers(2, 25), generator.integers(2, 40)
        mask[top : top + 10, left : left + 12 + number] = 255
    image[mask > 0] += 120
    return image, mask
