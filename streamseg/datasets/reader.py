"""Reads a data set in one of two layouts:

- ``images/`` and ``masks/`` with files of the same stem. Masks are 0/255, or class indices 0 background,
  1 nerve, 2 vessel (palette PNGs: the indices count, not the colours).
- the Kaggle Ultrasound Nerve Segmentation layout: ``train/<subject>_<n>.tif`` and ``<subject>_<n>_mask.tif``;
  ``train`` itself may be given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import overload

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from streamseg.core.errors import DataError, UsageError, one_line
from streamseg.core.files import natural_key
from streamseg.core.types import Grey, Mask

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
    """bool (H, W), or None if the masks do not label vessels."""
    subject: str | None = None
    """Who was scanned; None if that is not known."""


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files of one sample."""

    name: str
    image: Path
    mask: Path
    subject: str | None


class Dataset(Sequence[Sample]):
    """Samples in a fixed order, read from disk when asked for. A slice is a Dataset again."""

    def __init__(self, entries: Sequence[SampleFiles]) -> None:
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
    """Open a data set folder in either layout, or Kaggle's ``train`` itself.

    Raises UsageError if there is no such folder, DataError if it is in neither layout, is empty, or
    an image has no mask or a mask no image. Reading a sample raises DataError for an unreadable file, a
    mask of another size than its image, or unexpected mask values.
    """
    data, problems = survey(path)
    if problems:
        more = f" ('streamseg check' lists {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
    if not data:
        raise DataError(f"data set {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return data


def survey(path: str | Path) -> tuple[Dataset, tuple[str, ...]]:
    """All images with their masks, and one line for every unmatched or duplicate file.

    Only names are read; files that are not images are ignored. Raises UsageError if there is no such folder,
    and DataError if it is in neither layout or cannot be listed.
    """
    root = Path(path)
    if not root.is_dir():
        raise UsageError(
            f"no data set folder at {root}; give a folder with images/ and masks/, or with train/"
        )
    problems: list[str] = []
    if (root / "images").is_dir() and (root / "masks").is_dir():
        images, masks = (_by_stem(root / name, problems) for name in ("images", "masks"))
        return Dataset(_pair(images, masks, problems, subject=False)), tuple(problems)
    files = _by_stem(root / "train" if (root / "train").is_dir() else root, problems)
    masks = {stem.removesuffix("_mask"): file for stem, file in files.items() if stem.endswith("_mask")}
    if not masks and not (root / "train").is_dir():
        raise DataError(
            f"unknown layout of {root}; expected images/ and masks/ with files of the same name, "
            "or train/ with <subject>_<n>.tif and <subject>_<n>_mask.tif"
        )
    images = {stem: file for stem, file in files.items() if not stem.endswith("_mask")}
    return Dataset(_pair(images, masks, problems, subject=True)), tuple(problems)


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    """The image files of a folder in natural order: 2 comes before 10."""
    try:
        files = [
            p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
        ]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}; check its permissions") from error
    found: dict[str, Path] = {}
    for path in sorted(files, key=natural_key):
        if path.stem in found:
            problems.append(f"two files with the same name: {found[path.stem]} and {path.name}; keep one")
        else:
            found[path.stem] = path
    return found


def _pair(
    images: dict[str, Path], masks: dict[str, Path], problems: list[str], *, subject: bool
) -> list[SampleFiles]:
    problems += [
        f"mask {file} has no image; add the image or remove the mask"
        for stem, file in masks.items()
        if stem not in images
    ]
    problems += [
        f"image {file} has no mask; add the mask or remove the image"
        for stem, file in images.items()
        if stem not in masks
    ]
    return [
        SampleFiles(stem, file, masks[stem], stem.split("_", maxsplit=1)[0] if subject else None)
        for stem, file in images.items()
        if stem in masks
    ]


def read_sample(entry: SampleFiles) -> Sample:
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
        return Sample(entry.name, image, classes == 255, None, entry.subject)
    if values <= {0, NERVE, VESSEL}:
        return Sample(entry.name, image, classes == NERVE, classes == VESSEL, entry.subject)
    raise DataError(
        f"mask {entry.mask} holds the values {sorted(values)[:8]}; expected 0 and 255, or 0, 1 (nerve) and 2"
    )


def frame_hash(image: Grey) -> str:
    """sha256 of an image's shape and pixels, 64 hex digits."""
    return sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def read_grey(path: Path) -> Grey:
    """Read an image file as grey uint8 (H, W); colour is weighted by BT.601. Raises DataError."""

    def colours(picture: Pillow.Image) -> npt.NDArray[np.uint8]:
        if picture.mode.startswith(("I", "F")):
            raise DataError(
                f"image {path} has more than 8 bits a channel (mode {picture.mode}); save it with 8 bits"
            )
        return np.asarray(picture.convert("RGB"))

    return np.asarray(cv2.cvtColor(_open(path, colours), cv2.COLOR_RGB2GRAY), np.uint8)


def _read_indices(path: Path) -> npt.NDArray[np.uint8]:
    def indices(picture: Pillow.Image) -> npt.NDArray[np.uint8]:
        if picture.mode in ("RGB", "RGBA"):
            red, green, blue = (np.array(picture.getchannel(name)) for name in "RGB")
            if np.array_equal(red, green) and np.array_equal(red, blue):
                return red
        if picture.mode == "1":
            picture = picture.convert("L")
        if picture.mode not in ("P", "L"):
            what = "a colour image" if picture.mode.startswith("RGB") else "not an 8-bit image"
            raise DataError(f"mask {path} is {what} (mode {picture.mode}); expected 8-bit grey or palette")
        return np.array(picture)

    return _open(path, indices)


def _open(path: Path, read: Callable[[Pillow.Image], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """The result of ``read`` for an image file. The one place where Pillow's exceptions become ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about irrelevant tags
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as picture:
                return read(picture)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        what = "it is empty" if path.stat().st_size == 0 else "it is not an image"
        raise DataError(f"cannot read the image {path}: {what}; replace or remove the file") from error
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        raise DataError(
            f"cannot read the image {path}: {one_line(error)}; replace or remove the file"
        ) from error
