"""The clips of an archive: found in folders and what is below them, with a key that never changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamseg.capture import list_clips
from streamseg.capture.files import check_readable, is_folder, visible_files
from streamseg.capture.recording.format import is_recording
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.files import natural_key
from streamseg.core.plugins import source_plugin
from streamseg.core.types import Say

_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of an archive: a file, a folder that is one source, or an address like ``phantom:``."""

    uri: str
    """Absolute path or address."""
    key: str
    """16 hex digits of the hash of ``uri``: who has it, and whether it is done, depends on nothing else."""

    @classmethod
    def of(cls, uri: str) -> Clip:
        """The clip of a path, which is made absolute, or of an address."""
        where = uri if _is_address(uri) else str(Path(uri).resolve())
        return cls(where, hashlib.sha256(where.encode(errors="surrogateescape")).hexdigest()[:16])

    @property
    def name(self) -> str:
        """Name of its files, without suffix: readable, and unique by its key."""
        stem = "phantom" if _is_address(self.uri) else Path(self.uri).stem
        return f"{_UNSAFE.sub('_', stem)[:80]}-{self.key}"


@dataclass(frozen=True, slots=True)
class Shard:
    """The part ``index`` of ``count`` parts of an archive, from 1; which clip belongs to it is in its key."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"i/n"``. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text} is not i/n with i from 1 to n, such as 2/10")
        return cls(int(found[1]), int(found[2]))

    def has(self, clip: Clip) -> bool:
        return int(clip.key, 16) % self.count == self.index - 1


def find_clips(sources: Sequence[str], *, leave_out: Path, say: Say = lambda message: None) -> list[Clip]:
    """The clips of files, addresses and folders with everything below them, each once, in natural order.

    ``leave_out`` is a folder that is not searched: that of the results. ``say`` gets a line for each folder
    that cannot be read. Raises UsageError if a source does not exist, SourceError if there is no clip.
    """
    found: dict[str, Clip] = {}
    for source in sources:
        if not _is_address(source) and not is_folder(Path(source)):
            check_readable(Path(source))
        for uri in _below(source, leave_out.resolve(), say):
            clip = Clip.of(uri)
            found.setdefault(clip.key, clip)
    if not found:
        raise SourceError(
            f"no clip in {', '.join(sources)}: looked for videos, DICOM files, images and recorded runs, "
            "also in folders below; give a folder that holds some"
        )
    return list(found.values())


def _below(uri: str, leave_out: Path, say: Say) -> Iterator[str]:
    if _is_address(uri) or not is_folder(folder := Path(uri)) or is_recording(folder):
        yield uri
        return
    if folder.resolve() == leave_out:
        return
    try:
        files = visible_files(folder)
        below = [path for path in folder.iterdir() if is_folder(path) and not path.name.startswith(".")]
    except (SourceError, OSError) as error:
        say(f"left out: {error}")
        return
    if files:
        try:
            yield from list_clips(folder, say=say)
        except SourceError as error:  # notes or tables, but no clip; or a disk without its files
            if not below:
                say(f"left out: {error}")
    if not any(path.name.upper() == "DICOMDIR" for path in files):  # whose whole tree was listed
        for path in sorted(below, key=natural_key):
            if not path.is_symlink():  # may lead back here
                yield from _below(str(path), leave_out, say)


def _is_address(uri: str) -> bool:
    return uri.startswith("phantom:") or source_plugin(uri) is not None
