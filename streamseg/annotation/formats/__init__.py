"""Formats of labelling programs, one module each: ``write`` the drafts of a selection, ``read`` labels."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from streamseg.annotation.formats.reading import MAX_BYTES, Reading, read_document
from streamseg.annotation.frames import SELECTION, Draft, Selection
from streamseg.core.errors import DataError, UsageError, one_line
from streamseg.core.files import read_file

FORMATS = {
    "labelme": "labelme",
    "cvat": "cvat",
    "coco": "coco",
    "labelstudio": "label_studio",
    "nnunet": "nnunet",
    "masks": "mask_files",
}
"""Module of each format in this package."""


class LabellingFormat(Protocol):
    """A labelling program's files."""

    def write(self, folder: Path, drafts: Sequence[Draft]) -> None:
        """Write drafts into a selection's folder, where the images are already. Raises SinkError."""
        ...

    def read(self, path: Path, reading: Reading) -> None:
        """Read a file or folder into ``reading``; what is bad becomes a line of its problems."""
        ...


def format_of(name: str) -> LabellingFormat:
    """A format by name. Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(f"no labelling format is called {name!r}; choose one of {', '.join(FORMATS)}")
    return cast(LabellingFormat, import_module(f"{__name__}.{FORMATS[name]}"))


def image_folder(name: str) -> tuple[str, str]:
    """Folder and suffix of the images that a format wants."""
    return ("imagesTr", "_0000.png") if name == "nnunet" else ("images", ".png")


def recognise(path: Path) -> str:
    """The format of a file or folder. Raises UsageError if it is none, DataError if it cannot be read."""
    if not path.exists():
        raise UsageError(f"there is no file or folder {path}; give what the labelling program wrote")
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is None:
        raise UsageError(
            f"{path} is not in a format that is known ({', '.join(FORMATS)}); give the labelling program's "
            "file or folder, or name the format with --format"
        )
    return found


def _of_folder(path: Path) -> str | None:
    if (path / SELECTION).exists() and (stated := Selection.read(path).format) in FORMATS:
        return stated
    signs = {
        "nnunet": (path / "labelsTr").is_dir(),
        "cvat": (path / "annotations.xml").exists(),
        "labelstudio": (path / "tasks.json").exists(),
        "coco": (path / "annotations.json").exists(),
        "masks": (path / "masks").is_dir(),
        "labelme": any(path.glob("*.json")) or any(path.glob("images/*.json")),
    }
    return next((name for name, there in signs.items() if there), None)


def _of_file(path: Path) -> str | None:
    try:
        if path.suffix.lower() == ".xml":
            return "cvat" if b"<annotations" in read_file(path, MAX_BYTES)[:4096] else None
        document = read_document(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {one_line(error)}; export it again") from error
    if isinstance(document, list):
        return "labelstudio"
    if isinstance(document, dict):
        return "labelme" if "shapes" in document else "coco" if "annotations" in document else None
    return None
