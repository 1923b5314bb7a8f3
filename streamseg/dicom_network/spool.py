"""The folder of received cines and their results: private, exclusive, and consistent after a crash.

::

    spool/incoming/        parts of files that are being received; removed at the start
    spool/working/         results that are being made; removed at the start
    spool/received/UID.dcm whole cines that wait
    spool/results/UID/     results of a cine
    spool/failed/UID.dcm   cines that could not be segmented

Everything moves from one to the next by renaming, after it is on the disk.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from streamseg.core.cine import is_uid
from streamseg.core.errors import SinkError, UsageError, one_line
from streamseg.core.files import natural_key

_FOLDERS = ("incoming", "working", "received", "results", "failed")


class Spool:
    """A spool folder, used by this process alone until :meth:`close`."""

    def __init__(self, root: Path) -> None:
        """Open or create it, and remove what a crash left behind.

        Raises UsageError for a folder that others may read, that is no folder, or that another process uses,
        and SinkError if nothing can be written.
        """
        self.root = root
        self._publishing = threading.Lock()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_private()
            self._lock = FileLock(root / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(f"the spool {root} is used by another process; name another folder") from error
        except OSError as error:
            raise SinkError(f"cannot use the spool {root}: {one_line(error)}; name another folder") from error
        try:
            for name in ("incoming", "working"):
                shutil.rmtree(root / name, ignore_errors=True)
            for name in _FOLDERS:
                (root / name).mkdir(mode=0o700, exist_ok=True)
            for uid in self.waiting():
                if (root / "results" / uid).exists():  # a crash came between the two steps of finish
                    self.received(uid).unlink()
        except OSError as error:
            self._lock.release()
            raise SinkError(f"cannot use the spool {root}: {one_line(error)}; name another folder") from error
        self._temporary = tempfile.tempdir
        # pynetdicom writes what it receives to the temporary folder, which others may read.
        tempfile.tempdir = str(root / "incoming")

    def close(self) -> None:
        """Let another process use the spool."""
        tempfile.tempdir = self._temporary
        self._lock.release()

    def publish(self, part: Path, uid: str) -> Literal["new", "same", "other"]:
        """Move a received file to those that wait: ``new``, unless one of this UID waits already.

        That one stays: ``same`` if the two have the same bytes, else ``other``. OSError passes through.
        """
        if not is_uid(uid):
            raise ValueError(f"not a UID: {uid[:64]!r}")
        _to_disk(part)
        target = self.received(uid)
        with self._publishing:
            if target.exists():
                return "same" if filecmp.cmp(part, target, shallow=False) else "other"
            part.rename(target)
            _to_disk(target.parent)
        return "new"

    def received(self, uid: str) -> Path:
        """The file of a cine that waits."""
        return self.root / "received" / f"{uid}.dcm"

    def waiting(self) -> list[str]:
        """The UIDs of all cines that wait, the oldest first."""
        found = [path for path in (self.root / "received").glob("*.dcm") if is_uid(path.stem)]
        return [path.stem for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def working(self, uid: str) -> Path:
        """A new empty folder for the results of a cine. Raises SinkError."""
        folder = self.root / "working" / uid
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise SinkError(f"cannot write results in {folder}: {one_line(error)}; check the disk") from error
        return folder

    def finish(self, uid: str) -> list[Path]:
        """Move the results of a cine to their place, then remove the cine. Raises SinkError."""
        target = self.root / "results" / uid
        try:
            shutil.rmtree(target, ignore_errors=True)  # of an earlier sending of the same cine
            (self.root / "working" / uid).rename(target)
            _to_disk(target.parent)
            with self._publishing:  # the same file may be coming again
                self.received(uid).unlink(missing_ok=True)
        except OSError as error:
            raise SinkError(f"cannot keep results in {target}: {one_line(error)}; check the disk") from error
        return self.results(uid)

    def abandon(self, uid: str) -> None:
        """Remove unfinished results; the cine waits on."""
        shutil.rmtree(self.root / "working" / uid, ignore_errors=True)

    def fail(self, uid: str) -> Path:
        """Set a cine aside that cannot be segmented. OSError passes through."""
        self.abandon(uid)
        aside = self.root / "failed" / f"{uid}.dcm"
        with self._publishing:
            self.received(uid).replace(aside)
        return aside

    def finished(self) -> list[str]:
        """The UIDs of all cines that have results."""
        folders = (path for path in (self.root / "results").iterdir() if is_uid(path.name))
        return [path.name for path in sorted(folders, key=natural_key)]

    def results(self, uid: str) -> list[Path]:
        """The files of a cine's results."""
        return sorted((self.root / "results" / uid).glob("*.dcm"), key=natural_key)

    def remove_results(self, uid: str) -> None:
        """Remove results that are stored elsewhere."""
        shutil.rmtree(self.root / "results" / uid, ignore_errors=True)

    def _check_private(self) -> None:
        status = self.root.lstat()
        own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        if not stat.S_ISDIR(status.st_mode) or not own or status.st_mode & 0o077:
            raise UsageError(
                f"the spool {self.root} will hold patients' data, and others may read it; name a new folder, "
                "or make it yours alone (chmod 700)"
            )


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(PermissionError):  # Windows cannot do so for a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
