"""Determines what kind of recording a path is, and lists the files of a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from streamseg.core.errors import SourceError, UsageError, one_line
from streamseg.core.files import natural_key, read_file
from streamseg.reporting.formatting import counted

# GIF counts as video, since it may move.
IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".pgm", ".ppm", ".pnm", ".jp2")
)
DICOM_SUFFIXES = frozenset((".dcm", ".dicom"))
_BARE_STREAMS = (".h264", ".264", ".h265", ".265", ".hevc", ".y4m", ".mjpeg", ".mjpg", ".ivf")
_TRANSPORTS = (".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".mxf", ".nut")
_CONTAINERS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".wmv",
    ".asf",
    ".flv",
    ".ogv",
    ".3gp",
    ".gif",
)
_IMAGE_STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_VIDEO_STARTS = (b"\x1a\x45\xdf\xa3", b"FLV\x01", b"GIF8")
_IMAGE_BRANDS = (b"avif", b"avis")
_FILE_ID = re.compile(rb"\x04\x00\x00\x15CS(..)([\x20-\x7e]{0,71})", re.DOTALL)
_END = 4096
VIDEO_SUFFIXES = frozenset(_CONTAINERS + _TRANSPORTS + _BARE_STREAMS)


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; False also if it cannot be inspected."""
    try:
        return path.is_dir()
    except OSError:
        return False


def check_readable(path: Path) -> None:
    """Raise UsageError if there is no such file, SourceError if it is not a readable regular file."""
    try:
        if not path.exists():
            raise UsageError(f"no such file or folder: {path}; check the path")
        if not path.is_file():
            # Reading a pipe or a device could block forever.
            raise SourceError(f"{path} is not a regular file; give a recorded file or a folder")
        with path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"{path} is empty (0 bytes); record or copy it again")
    except PermissionError as error:
        raise SourceError(f"no permission to read {path}; check its access rights") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {one_line(error)}; check the path and the disk") from error


class ChangeWatch:
    """Notices that another program changes a file while it is read: a copy or a recording in progress.

    Create it before the file is opened. A file that was renamed, deleted or replaced by another one stays
    readable as it was, through the handle that is open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first = self._latest = _status(path)
        self._end = self._read_end()

    def check(self) -> None:
        """Raise SourceError if the content that was just read may be another one. Cheap: call it per frame.

        Growth does not count: whoever appends leaves alone what was there.
        """
        if (now := _status(self._path)) == self._latest:
            return
        if now is None or self._latest is None or now.inode != self._latest.inode:
            return
        if now.size <= self._latest.size or self._read_end() != self._end:
            raise SourceError(
                f"{self._path.name} was overwritten while it was read, so what follows is not of the same "
                "recording; wait until nothing writes to it, then read it again"
            )
        self._latest = now

    def _read_end(self) -> bytes | None:
        """The bytes where the file ended when it was opened: a longer file copied over it has others."""
        if self._first is None:
            return None
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, self._first.size - _END))
                return file.read(min(self._first.size, _END))
        except OSError:
            return None

    def conclude(self, read: str) -> None:
        """Raise SourceError if the file is not the one that was opened; ``read`` counts what was read."""
        self.check()
        if (now := _status(self._path)) == self._first:
            return
        if now is None or self._first is None or now.inode != self._first.inode:
            how = "was deleted, renamed or replaced by another file"
        else:
            how = "grew"
        raise SourceError(
            f"{self._path.name} {how} while it was read ({read}); wait until nothing writes to it, then read "
            "it again"
        )


class _Status(NamedTuple):
    inode: tuple[int, int]
    size: int
    written_ns: int


def _status(path: Path) -> _Status | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Status((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


def visible_files(folder: Path) -> list[Path]:
    """Files of a folder in natural order, without hidden ones. Raises SourceError."""
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    except OSError as error:
        raise SourceError(f"cannot list {folder}: {one_line(error)}; check its access rights") from error
    return sorted(files, key=natural_key)


def check_none_added(folder: Path, known: Sequence[Path], wanted: Callable[[Path], bool]) -> None:
    """Raise SourceError if a folder holds wanted files besides the ``known`` ones, which were read."""
    if added := sum(wanted(path) for path in set(visible_files(folder)) - set(known)):
        name, more = folder.resolve().name, counted(added, "more file")
        raise SourceError(
            f"{name} got {more} while it was read; wait until all are there, then read it again"
        )


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_clip(path: Path) -> bool:
    """Whether a file of a folder is a video or a DICOM file, by suffix or else by content."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in DICOM_SUFFIXES:
        return True
    # Scanners export DICOM as IM000001 or 1.2.840.113…; its DICOMDIR holds no images.
    return suffix not in IMAGE_SUFFIXES and path.name.upper() != "DICOMDIR" and has_dicom_preamble(path)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix, its preamble, or a typical first element."""
    return (
        path.suffix.lower() in DICOM_SUFFIXES or has_dicom_preamble(path) or _starts_with_dicom_element(path)
    )


def kind_of(path: Path) -> Literal["image", "dicom", "video"]:
    """How to read a file: by its first bytes, because names are sometimes wrong, else by its suffix."""
    head = _head(path, 16)
    if has_dicom_preamble(path):
        return "dicom"
    if head[4:8] == b"ftyp" and head[8:12] not in _IMAGE_BRANDS:
        return "video"
    if head.startswith(_VIDEO_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    if is_image(path) or (path.suffix.lower() in DICOM_SUFFIXES and head.startswith(_IMAGE_STARTS)):
        return "image"
    return "dicom" if is_dicom(path) else "video"


def has_dicom_preamble(path: Path) -> bool:
    return _head(path, 132)[128:] == b"DICM"


def missing_from_disk(folder: Path) -> int:
    """Files that the DICOMDIR of a folder lists and that are not there.

    Only the names of files are looked for in it (Referenced File ID, 0004,1500), since it names patients too.
    """
    try:
        path = next(path for path in folder.iterdir() if path.name.upper() == "DICOMDIR")
        listed = {
            found[2][: int.from_bytes(found[1], "little")].strip(b" \0").decode("ascii", "replace")
            for found in _FILE_ID.finditer(read_file(path))
        }
    except (OSError, StopIteration):
        return 0
    # A disk may show its names in small letters.
    names = [Path(*text.split("\\")) for text in listed if text and "\0" not in text]
    return sum(not ((folder / name).exists() or (folder / str(name).lower()).exists()) for name in names)


def _starts_with_dicom_element(path: Path) -> bool:
    # Old archives write no preamble: the file begins with an element of group 0002 or 0008, which has
    # either a two-letter type (explicit) or a short 32-bit length (implicit).
    head = _head(path, 8)
    if len(head) < 8 or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3] != 0:
        return False
    return (head[4:6].isalpha() and head[4:6].isupper()) or int.from_bytes(head[4:8], "little") < 1024


def _head(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""
