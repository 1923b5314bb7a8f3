"""Reads a data set of labelled images in one of these layouts:

- ``images/`` and ``masks/`` with files of the same stem, or ``X`` and ``X_mask``; the folders' case does not
  matter, and ``labels/`` are masks. Masks are 0/255, or class indices 0 background, 1 nerve, 2 vessel
  (palette PNGs: the indices count, not the colours, unless the colours are black and white).
- the Kaggle Ultrasound Nerve Segmentation layout: ``train/<subject>_<n>.tif`` and ``<subject>_<n>_mask.tif``;
  ``train`` itself may be given.
- that of nnU-Net, 2-D and of one channel: ``imagesTr/X_0000.png`` and ``labelsTr/X.png``.

Pixels that are not square by the resolution of the image's file become square, those of its mask too.

A table ``subjects.csv`` in the folder, with the columns ``name`` and ``subject``, names the subject of
each image. Without it subjects are known only in Kaggle's layout, from the file names.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Literal, overload

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from streamseg.core.errors import DataError, UsageError, is_programming_error, one_line
from streamseg.core.files import natural_key, read_file
from streamseg.core.pixel_aspect import aspect_of, square_size
from streamseg.core.types import Grey, Mask
from streamseg.core.upright import turn_upright

IMAGE_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"}
NERVE, VESSEL = 1, 2
SUBJECTS_FILE, LICENCE_FILE = "subjects.csv", "licence.txt"
MAX_INSPECTED_FOLDERS = 50
"""Folders that are inspected to say which layout a data set looks like."""
MAX_INSPECTED_PAGES = 1000
_SUBFILE_TYPE = 254
"""TIFF tag; its lowest bit marks a preview."""


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
    """The person scanned; None if unknown."""


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


def read_licence(root: Path) -> str:
    """The licence note in a data set's folder, in one line; empty if there is none."""
    try:
        return " ".join(read_file(root / LICENCE_FILE, 1 << 16).decode(errors="replace").split())
    except OSError:
        return ""


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
    layout = _find_layout(root)
    images = _by_stem(layout.images, problems)
    if layout.kind == "nnU-Net":
        images = _one_channel(images)
    if layout.masks is None:
        masks = {stem: file for stem, file in images.items() if re.search(r"_mask(_[0-9]+)?$", stem)}
        images = {stem: file for stem, file in images.items() if stem not in masks}
    else:
        masks = _by_stem(layout.masks, problems)
    masks = _by_image(masks, images, problems)
    if not masks and layout.kind == "unknown":
        raise DataError(_unknown(root))
    entries = _pair(images, masks, problems, subject=layout.masks is None)
    table = root / SUBJECTS_FILE
    if os.path.lexists(table):
        entries = _with_subjects(entries, table, problems)
    return Dataset(entries), tuple(problems)


@dataclass(frozen=True, slots=True)
class _Layout:
    kind: Literal["two folders", "Kaggle", "nnU-Net", "unknown"]
    images: Path
    masks: Path | None
    """None if they are among the images."""


def _find_layout(root: Path) -> _Layout:
    folders = _folders(root)
    for image_folder in ("images", "image"):
        for mask_folder in ("masks", "mask", "labels", "label"):
            if image_folder in folders and mask_folder in folders:
                return _Layout("two folders", folders[image_folder], folders[mask_folder])
    if "imagestr" in folders and "labelstr" in folders:
        return _Layout("nnU-Net", folders["imagestr"], folders["labelstr"])
    if (root / "train").is_dir():
        inner = _folders(root / "train")
        if {"images", "masks"} <= inner.keys():
            raise DataError(f"the images and masks of {root} are in its folder train; give {root / 'train'}")
        return _Layout("Kaggle", root / "train", None)
    return _Layout("unknown", root, None)


def _folders(root: Path) -> dict[str, Path]:
    """The folders of a folder by their names in lower case; of two, the one that is written so counts."""
    try:
        found = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(f"cannot read {root}: {one_line(error)}; check its permissions") from error
    return {path.name.lower(): path for path in [*found, *(p for p in found if p.name.islower())]}


def _unknown(root: Path) -> str:
    """What to do with a folder in none of the layouts; names the layout that it looks like."""
    known = (
        "expected images/ and masks/ with files of the same name, train/ with <subject>_<n>.tif and "
        "<subject>_<n>_mask.tif, or imagesTr/ and labelsTr/ of nnU-Net"
    )
    folders = list(_folders(root).values())
    for folder in folders[:MAX_INSPECTED_FOLDERS]:
        stems = [path.stem for path in _listed(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
        if any(re.search(r"_mask(_\d+)?$", stem) for stem in stems):
            return (
                f"the layout of {root} looks like BUSI's, with images and masks X_mask in folders by class, "
                f"such as {folder.name}/; give one of these folders, or {known}"
            )
    names = {path.name.lower() for path in folders}
    masks = names & {"masks", "mask", "labels", "label", "annotations", "labelstr", "groundtruth", "gt"}
    images = names & {"images", "image", "imgs", "jpegimages", "imagestr"}
    if masks or images:
        there = ", ".join(f"{path.name}/" for path in folders if path.name.lower() in masks | images)
        return f"the layout of {root} has {there} and lacks the other half; {known}"
    return f"unknown layout of {root}; {known}"


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _one_channel(files: dict[str, Path]) -> dict[str, Path]:
    """nnU-Net's images by case: ``X_0000`` is the first channel of X. Raises DataError for a second one."""
    cases: dict[str, Path] = {}
    for stem, file in files.items():
        case, _, channel = stem.rpartition("_")
        if not re.fullmatch("[0-9]{4}", channel) or not case:
            raise DataError(f"image {file} has no channel in its name; nnU-Net's are named X_0000.png")
        if channel != "0000":
            raise DataError(f"image {file} is a second channel; images of one channel are read")
        cases[case] = file
    return cases


def _by_image(masks: dict[str, Path], images: dict[str, Path], problems: list[str]) -> dict[str, Path]:
    """The masks by the stem of their image, which ``X_mask`` shares with X."""
    found: dict[str, Path] = {}
    for stem, file in masks.items():
        bare = re.sub(r"_mask(_[0-9]+)?$", "", stem)
        image = stem if stem in images or bare not in images else bare
        if image in found:
            problems.append(f"two masks of one image: {found[image]} and {file.name}; join them or keep one")
        else:
            found[image] = file
    return found


def _with_subjects(entries: list[SampleFiles], table: Path, problems: list[str]) -> list[SampleFiles]:
    """The samples with the subjects of a table; those that it lacks are a problem. Raises DataError."""
    try:
        text = read_file(table).decode("utf-8-sig")
        rows = csv.DictReader(text.splitlines(), strict=True)
        if not {"name", "subject"} <= set(rows.fieldnames or ()):
            raise ValueError("it has no columns 'name' and 'subject'")
        subject_of = {Path(row["name"] or "").name: (row["subject"] or "").strip() for row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {table}: {one_line(error)}; give one line name,subject an image"
        ) from error
    found = []
    for entry in entries:
        names = (entry.image.name, entry.image.stem, entry.name)
        subject = next((subject_of[name] for name in names if subject_of.get(name)), None)
        if subject is None:
            problems.append(f"image {entry.image} has no subject in {table}; add a line for it")
        found.append(replace(entry, subject=subject))
    return found


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    """The image files of a folder in natural order: 2 comes before 10."""
    try:
        files = [
            p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
        ]
        problems += [f"{p} is not a file; remove it" for p in files if not p.is_file()]
        files = [p for p in files if p.is_file()]  # reading a pipe could block for ever
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
    image, aspect = _read_grey(entry.image)
    classes = read_indices(entry.mask, aspect)
    if classes.shape != image.shape:
        turned = ", and one may have an orientation tag" if classes.shape == image.shape[::-1] else ""
        raise DataError(
            f"mask {entry.mask} is {classes.shape[1]}x{classes.shape[0]}, "
            f"its image {image.shape[1]}x{image.shape[0]}; both must have one size{turned}"
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
    """Read an image file as grey uint8 (H, W); colour is weighted by BT.601. Raises DataError.

    As in sources, orientation tags are applied, pixels that are not square by the file's resolution become
    square, and transparent pixels are blended with black.
    """
    return _read_grey(path)[0]


def _read_grey(path: Path) -> tuple[Grey, Fraction]:
    """An image and the aspect that its pixels had."""

    def colours(picture: Pillow.Image) -> npt.NDArray[np.uint8]:
        if picture.mode.startswith(("I", "F")):
            raise DataError(
                f"image {path} has more than 8 bits a channel (mode {picture.mode}); save it with 8 bits"
            )
        if picture.has_transparency_data:
            picture = Pillow.alpha_composite(
                Pillow.new("RGBA", picture.size, (0, 0, 0, 255)), picture.convert("RGBA")
            )
        return np.asarray(picture.convert("RGB"))

    pixels, aspect = _open(path, colours)
    return _squared(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8), aspect), aspect


def _squared(image: Grey, aspect: Fraction, how: int = cv2.INTER_LINEAR) -> Grey:
    if aspect == 1:
        return image
    size = square_size(image.shape[1], image.shape[0], aspect)
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def read_indices(path: Path, aspect: Fraction | None = None) -> npt.NDArray[np.uint8]:
    """The values of a mask file as they are, uint8 (H, W), with square pixels. Raises DataError.

    ``aspect`` is that of its image's pixels, since many programs leave it out of a mask; None: by this file.
    """

    def indices(picture: Pillow.Image) -> npt.NDArray[np.uint8]:
        if picture.mode in ("RGBA", "LA"):
            return _without_alpha(path, picture)
        if picture.mode == "RGB":
            return _same_channels(path, picture.mode, np.asarray(picture))
        if picture.mode == "1":
            picture = picture.convert("L")
        if picture.mode not in ("P", "L"):
            raise DataError(
                f"mask {path} is not an 8-bit image (mode {picture.mode}); expected 8-bit grey or palette"
            )
        values = np.array(picture)
        if picture.mode == "P" and picture.has_transparency_data:
            pixels = np.asarray(picture.convert("RGBA"))
            if (pixels[..., :3] == pixels[0, 0, :3]).all():
                return np.ascontiguousarray(pixels[..., 3])  # shades differ in nothing but their alpha
        return _black_and_white(picture, values) if picture.mode == "P" else values

    values, own = _open(path, indices)
    return _squared(values, own if aspect is None else aspect, cv2.INTER_NEAREST)


def _same_channels(path: Path, mode: str, colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One channel of colours (..., 3) that are all grey. Raises DataError."""
    if (colours != colours[..., :1]).any():
        raise DataError(f"mask {path} is a colour image (mode {mode}); expected 8-bit grey or palette")
    return np.ascontiguousarray(colours[..., 0])


def _without_alpha(path: Path, picture: Pillow.Image) -> npt.NDArray[np.uint8]:
    """The label of a mask with transparency, which some editors write: in its grey levels or in its alpha.

    An opaque mask is its grey levels. If parts are transparent and all others have one colour, the alpha is
    the label; else transparent pixels are background. Raises DataError if that would be a guess.
    """
    pixels = np.asarray(picture.convert("RGBA"))
    colours, alpha = pixels[..., :3], pixels[..., 3]
    opaque = colours[alpha > 0]
    if (alpha == 255).all():
        return _same_channels(path, picture.mode, colours)
    if len(opaque) == 0 and (colours == colours[0, 0]).all():
        return alpha
    if len(opaque) and (opaque == opaque[0]).all() and opaque[0].any():
        return alpha
    if len(opaque) and (colours[alpha == 0] == 0).all() and set(np.unique(alpha)) <= {0, 255}:
        return _same_channels(path, picture.mode, colours)
    raise DataError(
        f"mask {path} has transparent pixels, and its label may be in its colours or in its alpha; "
        "save it as 8-bit grey without transparency"
    )


def _black_and_white(picture: Pillow.Image, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """0/255 by the colours, if a palette is of black and white, in whatever order; else the indices."""
    palette = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(values)
    if int(used[-1]) >= len(palette):
        return values
    shades = palette[used]
    first = palette[:2]
    # A mask of one shade has the meaning of its palette: white first and black second, or the other way.
    pair = shades if len(used) > 1 else first
    if len(pair) != 2 or {tuple(shade) for shade in pair.tolist()} != {(0, 0, 0), (255, 255, 255)}:
        return values
    return np.ascontiguousarray(palette[values][..., 0])


def _pages(picture: Pillow.Image) -> int:
    """Pages of a TIFF file, or frames of an animation, without the small previews that a TIFF may hold."""
    if picture.format == "MPO":  # a photograph with a preview
        return 1
    count = int(getattr(picture, "n_frames", 1))
    if count == 1 or picture.format != "TIFF":
        return count
    pages = 0
    for number in range(min(count, MAX_INSPECTED_PAGES)):
        picture.seek(number)
        pages += not int(picture.tag_v2.get(_SUBFILE_TYPE, 0)) & 1  # type: ignore[attr-defined]
    picture.seek(0)
    return pages


def _open(
    path: Path, read: Callable[[Pillow.Image], npt.NDArray[np.uint8]]
) -> tuple[npt.NDArray[np.uint8], Fraction]:
    """The result of ``read`` for an image file, and the aspect of its pixels.

    The one place where Pillow's exceptions become ours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about irrelevant tags
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            if not path.is_file():  # reading a pipe could block for ever
                raise DataError(f"cannot read the image {path}: it is not a file; remove or replace it")
            with Pillow.open(path) as picture:
                if (pages := _pages(picture)) > 1:
                    raise DataError(
                        f"image {path} has {pages} pages, and an image of a data set has one; save each page "
                        "as a file of its own"
                    )
                aspect = aspect_of(picture)
                turn_upright(picture)
                return read(picture), aspect
    except DataError:
        raise
    except UnidentifiedImageError as error:
        what = "it is empty" if path.stat().st_size == 0 else "it is not an image"
        raise DataError(f"cannot read the image {path}: {what}; replace or remove the file") from error
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        if is_programming_error(error, "PIL"):
            raise
        raise DataError(
            f"cannot read the image {path}: {one_line(error)}; replace or remove the file"
        ) from error
