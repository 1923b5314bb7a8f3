"""Frames that were selected to be labelled, their labels, and the folder that holds a selection.

::

    to-label/
      selection.json      what the import needs: names, sizes, hashes of the images, subjects
      frames.csv          a line for each frame: its origin, why it was chosen, whether it was looked at
      contact-sheet.png   all frames with the drafts, to look at
      images/             the ultrasound images alone, as PNG
      drafts/             the net's own outlines: 0 background, 1 nerve, 2 vessel

and the files of one labelling format (:mod:`streamseg.annotation.formats`). Nothing in it names a file, a
patient or a machine: recordings have numbers, made from the pixels of their first frame.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from streamseg.core.errors import DataError, UsageError, one_line
from streamseg.core.files import natural_key, read_file, read_json, write_json, write_text, write_whole
from streamseg.core.numbers import whole_number
from streamseg.core.types import Image, Mask
from streamseg.datasets.reader import IMAGE_SUFFIXES, NERVE, VESSEL, read_grey, read_indices

FORMAT = "streamseg-selection-1"
SELECTION, TABLE, SHEET, IMAGES, DRAFTS = (
    "selection.json",
    "frames.csv",
    "contact-sheet.png",
    "images",
    "drafts",
)
STRUCTURES = {"nerve": NERVE, "vessel": VESSEL}
"""Structures that a net learns, with their index in mask files."""
PALETTE = (0, 0, 0, 240, 228, 66, 0, 114, 178)
"""Colours of mask files, as in overlays: background black, nerve yellow, vessel blue."""
YES = {"yes", "y", "x", "1", "true"}
"""Entries of the table's column ``looked_at`` that mean yes."""
MAX_SIDE = 1 << 14


class Review(StrEnum):
    """What a person did with a frame."""

    LOOKED_AT = "looked at"
    """Its labels were changed, or confirmed as they are: also that it shows nothing."""
    DRAFT = "draft"
    """It still has the net's own outlines, and nobody confirmed them."""
    NOT_LOOKED_AT = "not looked at"
    """It has no labels, and nobody confirmed that there is nothing."""


@dataclass(frozen=True, slots=True)
class SelectedFrame:
    """A frame to be labelled."""

    name: str
    """Stem of its files: recording and frame, such as ``483920-000123``; unique over all selections."""
    image: str
    """Its image inside the folder, such as ``images/483920-000123.png``."""
    height: int
    width: int
    recording: str = ""
    """Six digits, the same whenever the recording is read; empty if the frame is from elsewhere."""
    frame: int = 0
    """Its index in the recording."""
    seconds: float | None = None
    """Its time in the recording."""
    subject: str = ""
    """The person scanned, as a number; empty if unknown."""
    reason: str = ""
    """Why it was chosen."""


@dataclass(frozen=True, slots=True, repr=False)
class Draft:
    """A selected frame with the net's outlines, as a format writes it out."""

    frame: SelectedFrame
    masks: Mapping[str, Mask]
    """By structure, of those that the net outlines; bool (height, width)."""


@dataclass(frozen=True, slots=True, repr=False)
class Labels:
    """The labels of one frame, as a format reads them."""

    name: str
    """Stem of the image's file."""
    masks: Mapping[str, Mask]
    """By the structure's name in the file; bool (height, width), without those that have no label."""
    looked_at: bool
    """Whether the labelling program says that a person looked at the frame."""
    file: Path
    """For messages."""


@dataclass(frozen=True, slots=True, repr=False)
class LabelledFrame:
    """A frame with labels: what every format becomes, and every data set is written from."""

    frame: SelectedFrame
    masks: Mapping[str, Mask]
    """By structure, one of STRUCTURES; bool (height, width)."""
    review: Review


@dataclass(frozen=True)
class Selection:
    """A folder of frames to be labelled."""

    folder: Path
    format: str
    """Format of the labelling files in it; empty if it was not made by ``streamseg select``."""
    frames: tuple[SelectedFrame, ...]

    def image(self, frame: SelectedFrame) -> Path:
        """The image's file."""
        return self.folder / frame.image

    def draft(self, frame: SelectedFrame) -> dict[str, Mask]:
        """The net's outlines by structure; none without a draft. Raises DataError for a damaged one."""
        path = self.folder / DRAFTS / f"{frame.name}.png"
        if not path.exists():
            return {}
        found = split_classes(read_mask(path))
        if any(mask.shape != (frame.height, frame.width) for mask in found.values()):
            raise DataError(f"draft {path} has another size than its image; restore it")
        return found

    def looked_at(self) -> set[str]:
        """Names of the frames that the table marks as looked at. Raises DataError for a damaged table."""
        path = self.folder / TABLE
        try:
            rows = csv.DictReader(io.StringIO(read_file(path).decode("utf-8-sig")), strict=True)
            return {row["name"] for row in rows if (row.get("looked_at") or "").strip().lower() in YES}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, KeyError, csv.Error) as error:
            raise DataError(
                f"cannot read {path}: {one_line(error)}; keep its columns as they were"
            ) from error

    def write(self) -> None:
        """Write ``selection.json`` and ``frames.csv``. Raises SinkError."""
        write_json(
            self.folder / SELECTION,
            {"format": FORMAT, "labels": self.format, "frames": [asdict(frame) for frame in self.frames]},
        )
        table = io.StringIO()
        columns = ("name", "recording", "frame", "seconds", "subject", "reason")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow((*columns, "looked_at"))
        writer.writerows((*(getattr(frame, name) for name in columns), "no") for frame in self.frames)
        write_text(self.folder / TABLE, table.getvalue())

    @classmethod
    def read(cls, folder: Path) -> Selection:
        """Raises UsageError if the folder holds no selection, DataError for a damaged one."""
        path = folder / SELECTION
        values = read_json(path)
        if values is None:
            raise UsageError(f"{folder} holds no {SELECTION}; give a folder that 'streamseg select' wrote")
        try:
            if values.get("format") != FORMAT:
                raise ValueError(f"its format is {values.get('format')!r}, this version reads {FORMAT!r}")
            frames = tuple(_frame(entry) for entry in values["frames"])
            return cls(folder, str(values.get("labels", "")), frames)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is damaged ({one_line(error)}); select the frames again") from error


def _frame(values: Any) -> SelectedFrame:
    """A frame of a selection's file. Raises ValueError or TypeError."""
    known = {field.name for field in fields(SelectedFrame)}
    frame = SelectedFrame(**{name: value for name, value in values.items() if name in known})
    texts = (frame.name, frame.image, frame.recording, frame.subject, frame.reason)
    if not all(isinstance(text, str) for text in texts) or not frame.name or "/" in frame.name:
        raise ValueError("a name is not text")
    if ".." in Path(frame.image).parts or Path(frame.image).is_absolute():
        raise ValueError("an image lies outside the folder")
    if None in (whole_number(frame.height, 1, MAX_SIDE), whole_number(frame.width, 1, MAX_SIDE)):
        raise ValueError("a size is not a number of pixels")
    return frame


def class_mask(masks: Mapping[str, Mask], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Masks by structure as one of class indices, uint8 ``shape``; where they overlap, the nerve counts."""
    classes = np.zeros(shape, np.uint8)
    for structure in ("vessel", "nerve"):
        if structure in masks:
            classes[masks[structure]] = STRUCTURES[structure]
    return classes


def split_classes(classes: npt.NDArray[np.uint8]) -> dict[str, Mask]:
    """Inverse of :func:`class_mask`; every structure has a mask, which may be empty."""
    return {structure: classes == index for structure, index in STRUCTURES.items()}


def write_mask(path: Path, classes: npt.NDArray[np.uint8]) -> None:
    """Write class indices as a palette PNG, so that a viewer shows colours. Raises SinkError."""
    picture = Pillow.fromarray(classes)
    picture.putpalette(PALETTE)
    data = io.BytesIO()
    picture.save(data, "PNG")
    write_whole(path, data.getvalue())


def read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Class indices of a mask file, uint8 (H, W); 255 is nerve. Raises DataError."""
    classes = read_indices(path)
    values = set(np.unique(classes).tolist())
    if values <= {0, 255}:
        return np.asarray(classes == 255, np.uint8)
    if not values <= {0, NERVE, VESSEL}:
        raise DataError(
            f"mask {path} holds the values {sorted(values)[:8]}; expected 0 and 255, or 0, 1 (nerve) and 2"
        )
    return classes


def write_image(path: Path, image: Image) -> None:
    """Write an image as PNG, which holds nothing but pixels. Raises SinkError."""
    write_whole(path, cv2.imencode(".png", image)[1].tobytes())


def frames_of_images(folder: Path) -> Selection:
    """Images of any folder as frames to be labelled, without drafts or subjects. Raises DataError."""
    try:
        found = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {one_line(error)}; give the folder of the images") from error
    frames: dict[str, SelectedFrame] = {}
    for path in found:
        height, width = read_grey(path).shape
        if path.stem in frames:
            raise DataError(f"two images have one name: {path} and {frames[path.stem].image}; keep one")
        frames[path.stem] = SelectedFrame(path.stem, path.name, height, width)
    if not frames:
        raise UsageError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return Selection(folder, "", tuple(frames.values()))


def by_name(frames: Sequence[SelectedFrame]) -> dict[str, SelectedFrame]:
    """Frames by their names."""
    return {frame.name: frame for frame in frames}
