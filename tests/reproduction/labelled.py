"""A small labelled data set on disk: noise with bright rectangles, every third image without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_labelled(root: Path, images: int = 6) -> Path:
    """Write ``images`` pictures of 60x40 pixels; that of number n is the same however many there are."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(images):
        generator = np.random.default_rng(number)
        image = generator.integers(0, 100, (40, 60), dtype=np.uint8)
        mask = np.zeros((40, 60), np.uint8)
        if number % 3:
            top, left = generator.integers(2, 25), generator.integers(2, 40)
            mask[top : top + 10, left : left + 12 + number] = 255
        image[mask > 0] += 120
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root
