"""Reads a data set in one of two layouts:

- ``images/`` and ``masks/`` with files of the same stem. Masks are 0/255, or class indices 0 background,
  1 nerve, 2 vessel (palette PNGs: the indices count, not the colours).
- the Kaggle Ultrasound Nerve Segmentation layout: ``train/<subject>_<n>.tif`` and ``<subject>_<n>_mask.tif``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from streamseg.errors import DataError, UsageError
from streamseg.types import Grey, Mask

IMAGE_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"}
NERVE, VESSEL = 1, 2


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image."""

    name: str
    """File stem; unique in its data set."""
    image: Grey
    """uint8 (H, W)."""
    nerve: Mask
    """bool (H, W)."""
    vessel: Mask | None
    """bool (H, W), or None where the masks tell nothing of vessels."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one sample lies."""

    name: str
    image: Path
    mask: Path
    subject: str | None


class Dataset(Sequence[Sample]):
    """Samples in a fixed order, read from disk when asked for. A slice is a Dataset again."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        if isinstance(index, slice):
            return Dataset(self.entries[index])
        return read_sample(self.entries[index])

    def __iter__(self) -> Iterator[Sample]:
        return (read_sample(entry) for entry in self.entries)

    def part(self, rows: Iterable[int]) -> Dataset:
        """The samples of some rows, in the order given."""
        return Dataset([self.entries[row] for row in rows])


def open_dataset(path: str | Path) -> Dataset:
    """Open a data set folder in either layout.

    Raises UsageError where there is no such folder, DataError where it is in neither layout, is empty, or
    an image has no mask or a mask no image. Reading a sample raises DataError for an unreadable file, a
    mask of another size than its image, or unexpected mask values.
    """
    root = Path(path)
    if not root.is_dir():
        raise UsageError(
            f"no data set folder at {root}; give a folder with images/ and masks/, or with train/"
        )
    if (root / "images").is_dir() and (root / "masks").is_dir():
        entries = _pair(_by_stem(root / "images"), _by_stem(root / "masks"), subject=False)
    elif (root / "train").is_dir():
        files = _by_stem(root / "train")
        masks = {stem.removesuffix("_mask"): path for stem, path in files.items() if stem.endswith("_mask")}
        images = {stem: path for stem, path in files.items() if not stem.endswith("_mask")}
        entries = _pair(images, masks, subject=True)
    else:
        raise DataError(
            f"{root} is in no known layout; expected images/ and masks/ with files of the same name, "
            "or train/ with <subject>_<n>.tif and <subject>_<n>_mask.tif"
        )
    if not entries:
        raise DataError(f"data set {root} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return Dataset(entries)


def _by_stem(folder: Path) -> dict[str, Path]:
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    found: dict[str, Path] = {}
    for path in sorted(
        files, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.stem)]
    ):
        if path.stem in found:
            raise DataError(f"two files of one name: {found[path.stem]} and {path.name}; keep one")
        found[path.stem] = path
    return found


def _pair(images: dict[str, Path], masks: dict[str, Path], *, subject: bool) -> list[Entry]:
    for stem in masks.keys() - images.keys():
        raise DataError(f"mask {masks[stem]} has no image; add the image or remove the mask")
    for stem in images.keys() - masks.keys():
        raise DataError(f"image {images[stem]} has no mask; add the mask or remove the image")
    return [
        Entry(stem, path, masks[stem], stem.split("_", maxsplit=1)[0] if subject else None)
        for stem, path in images.items()
    ]


def read_sample(entry: Entry) -> Sample:
    """Read one sample. Raises DataError."""
    image = read_grey(entry.image)
    classes = _read_indices(entry.mask)
    if classes.shape != image.shape:
        raise DataError(
            f"mask {entry.mask} is {classes.shape[1]}x{classes.shape[0]}, "
            f"its image {image.shape[1]}x{image.shape[0]}; both must have one size"
        )
    values = set(np.unique(classes).tolist())
    if values <= {0, 255}:
        return Sample(entry.name, image, classes == 255, None)
    if values <= {0, NERVE, VESSEL}:
        return Sample(entry.name, image, classes == NERVE, classes == VESSEL)
    raise DataError(
        f"mask {entry.mask} holds the values {sorted(values)[:8]}; expected 0 and 255, or 0, 1 (nerve) and 2"
    )


def read_grey(path: Path) -> Grey:
    """Read an image file as grey uint8 (H, W); colour is weighted by BT.601. Raises DataError."""
    pixels = _open(path, lambda picture: np.asarray(picture.convert("RGB")))
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _read_indices(path: Path) -> npt.NDArray[np.uint8]:
    def indices(picture: Pillow.Image) -> npt.NDArray[np.uint8]:
        if picture.mode in ("RGB", "RGBA"):
            red, green, blue = (np.array(picture.getchannel(name)) for name in "RGB")
            if np.array_equal(red, green) and np.array_equal(red, blue):
                return red
        if picture.mode == "1":
            picture = picture.convert("L")
        if picture.mode not in ("P", "L"):
            raise DataError(
                f"mask {path} is a colour picture (mode {picture.mode}); expected 8-bit grey or palette"
            )
        return np.array(picture)

    return _open(path, indices)


def _open(path: Path, read: Callable[[Pillow.Image], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    try:
        with Pillow.open(path) as picture:
            return read(picture)
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {path}: {error}; replace or remove the file") from error
