"""Mask files: ``masks/X.png`` beside ``images/X.png``, palette PNGs of 0 background, 1 nerve, 2 vessel.

The table ``frames.csv`` says which frames were looked at: a mask has no place for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamseg.annotation.formats.reading import Reading
from streamseg.annotation.frames import Draft, class_mask, read_mask, split_classes, write_mask
from streamseg.core.files import natural_key
from streamseg.datasets.reader import IMAGE_SUFFIXES

FOLDER = "masks"


def write(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write a mask for each image. Raises SinkError."""
    for draft in drafts:
        shape = draft.frame.height, draft.frame.width
        write_mask(folder / FOLDER / f"{draft.frame.name}.png", class_mask(draft.masks, shape))


def read(path: Path, reading: Reading) -> None:
    """Read the masks of a folder, or of its ``masks/``."""
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    files = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if not files:
        raise ValueError("it holds no masks")
    for file in files:
        with reading.problem(file):
            frame = reading.frame(file.stem.removesuffix("_mask") + file.suffix)
            masks = split_classes(read_mask(file))
            height, width = masks["nerve"].shape
            reading.check_size(frame, width, height)
            reading.add(frame, masks, looked_at=False, file=file)
