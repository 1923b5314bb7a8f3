"""The engine store: a folder of engines, each of which appears whole or not at all.

::

    engines/
      improved_unet-openvino-int8-192x256-b1-0a1b2c3d/   manifest.json and the files that it vouches for
      .building/                                         engines being built, moved into place when finished
      .locks/                                            a file per engine, locked by whoever builds it

Locks are the operating system's: those of a killed process are free again. What a killed process left in
``.building`` is never listed or loaded, and ``streamseg engines prune`` removes it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Imported here, though only builders lock: it hooks into forks, and importing OpenVINO forks in a thread.
from filelock import BaseFileLock, FileLock, Timeout

from streamseg.core.errors import EngineError, SinkError, UsageError
from streamseg.core.files import private_folder, user_folder
from streamseg.core.hardware import Machine
from streamseg.core.types import Say
from streamseg.engines.compatibility import incompatibilities
from streamseg.engines.integrity import engine_name, is_engine_name, problems
from streamseg.engines.manifest import FILE_NAME, Manifest, altered, read_unchecked

__all__ = ["EngineStore", "StoredEngine", "default_root", "engine_name"]

ROOT_VARIABLE = "STREAMSEG_ENGINES"
"""Environment variable that names the store's folder."""
BUILDING, LOCKS = ".building", ".locks"
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors of file systems without locks."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def default_root() -> Path:
    """STREAMSEG_ENGINES, else ``engines/`` of this checkout, else a folder in the user's cache.

    A user without a home gets a private folder for temporary files.
    """
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        with suppress(RuntimeError):  # "~" of a user without a home
            return Path(chosen).expanduser()
        return Path(chosen)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "engines").is_dir():
        return checkout / "engines"
    return (user_folder("cache") or private_folder()) / "engines"


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """A folder of the store and its manifest."""

    path: Path
    manifest: Manifest | None
    """None if it cannot be read."""
    sealed: bool
    """False if the manifest was altered after it was written, or cannot be read."""
    error: str | None
    """Why the engine cannot be trusted, as far as its manifest shows; its files are not checked."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name


class EngineStore:
    """Engines in one folder, which need not exist before the first is built."""

    def __init__(self, root: str | Path | None = None) -> None:
        """``root`` None is :func:`default_root`."""
        self.root = default_root() if root is None else Path(root)

    def entries(self) -> list[StoredEngine]:
        """All engines by name, damaged ones too. Raises EngineError for a store that cannot be read."""
        if not self.root.exists():
            return []
        try:
            folders = sorted(path for path in self.root.iterdir() if _is_engine(path))
        except OSError as error:
            raise EngineError(
                f"cannot read the engine store {self.root}: {error.strerror or error}; "
                f"choose another folder with {ROOT_VARIABLE}"
            ) from error
        return [_entry(folder) for folder in folders]

    def find(self, name: str, machine: Machine | None = None) -> StoredEngine | None:
        """The engine of this name, or whose name begins like this (without key, or without batch and key).

        Of several, those that fit the machine (None is this one) are preferred, then those for one frame at a
        time. None if there is no such engine; raises UsageError if several are left.
        """
        found = [entry for entry in self.entries() if _matches(entry.name, name)]
        exact = [entry for entry in found if entry.name == name]
        found = exact or found
        for preferred in (_fits(machine), _single):
            if len(found) > 1:
                found = [entry for entry in found if preferred(entry)] or found
        if len(found) > 1:
            names = ", ".join(entry.name for entry in found)
            raise UsageError(f"{name!r} could be any of the engines {names}; give more of the name")
        return found[0] if found else None

    def verify(self, folder: Path) -> list[str]:
        """Problems of an engine's folder, each a human-readable phrase; empty if it is as it was built.

        Reads every file. Not fitting this machine is not damage, see
        :func:`streamseg.engines.compatibility.incompatibilities`.
        """
        return problems(folder)

    @contextmanager
    def lock(self, name: str, *, waiting: Say = lambda _: None) -> Iterator[None]:
        """Within the block no other process builds, replaces or removes the engine of this name.

        ``waiting`` receives one line if another process has to be waited for. Raises SinkError if the store
        cannot be written.
        """
        with self.writing():
            folder = self._hidden(LOCKS)
            lock = os_lock(folder / f"{name}.lock", shared=True)
            if not try_lock(lock):
                waiting(f"another process is building or replacing {name}; waiting for it")
                lock.acquire(poll_interval=0.1)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the store's file system to build an engine in, removed after the block.

        :meth:`publish` moves it into place. Raises SinkError if the store cannot be written or is full.
        """
        token = secrets.token_hex(8)
        with self.writing():
            folder = self._hidden(BUILDING) / token
            lock = os_lock(folder.with_suffix(".lock"))
            try_lock(lock)  # tells prune that a build is running here
            folder.mkdir()
        try:
            with self.writing(only=_FULL):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def publish(self, staged: Path, name: str) -> Path:
        """Move a finished engine out of :meth:`staging` into place, replacing one of the same name.

        Whatever happens, the store has the old engine, or the new one, or neither, never half of one. Raises
        SinkError if it cannot be written, and UsageError if something else has the name.
        """
        target = self.root / name
        with self.lock(name), self.writing():
            _sync(staged)
            if target.is_symlink() or (target.exists() and not target.is_dir()):
                raise UsageError(f"{target} is not an engine folder; move it away, the new engine goes there")
            with self.staging() as aside:
                if target.exists():
                    target.rename(aside / "old")
                try:
                    staged.rename(target)
                except OSError:
                    if (aside / "old").exists():
                        (aside / "old").rename(target)
                    raise
                _sync_folder(self.root)
        return target

    def remove(self, folder: Path) -> bool:
        """Remove an engine atomically: a kill in the middle leaves no half of it.

        False if another process is building or replacing it. Raises SinkError.
        """
        with self.writing():
            lock = os_lock(self._hidden(LOCKS) / f"{folder.name}.lock", shared=True)
            if not try_lock(lock):
                return False
        try:
            with self.staging() as aside, self.writing():
                folder.rename(aside / "old")
        finally:
            lock.release()
        return True

    def _hidden(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def writing(self, only: tuple[int, ...] = ()) -> Iterator[None]:
        """Within the block OSError becomes SinkError; with ``only``, those of these error numbers."""
        try:
            yield
        except OSError as error:
            if only and error.errno not in only:
                raise
            raise SinkError(
                f"cannot write into the engine store {self.root}: {error.strerror or error}; "
                f"choose another folder with {ROOT_VARIABLE}"
            ) from error


def os_lock(path: Path, *, shared: bool = False) -> BaseFileLock:
    """A file's lock, not yet taken. With ``shared`` the thread that holds it may take it again."""
    return FileLock(path, is_singleton=shared)


def try_lock(lock: BaseFileLock) -> bool:
    """Take a lock; False if another process has it. Raises OSError if the file cannot be written.

    A file system without locks (some network and FUSE mounts) has nobody to wait for: then it counts as
    taken, and only the moving into place of whole folders keeps two builders apart.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except NotImplementedError:  # filelock's answer to ENOSYS
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _is_engine(path: Path) -> bool:
    if path.name.startswith(".") or not path.is_dir():
        return False
    return (path / FILE_NAME).exists() or (is_engine_name(path.name) and not path.is_symlink())


def _entry(folder: Path) -> StoredEngine:
    try:
        found = read_unchecked(folder)
    except EngineError as error:
        return StoredEngine(folder, None, False, str(error))
    return StoredEngine(folder, found.manifest, found.sealed, None if found.sealed else str(altered(folder)))


def _matches(name: str, wanted: str) -> bool:
    """Whether ``wanted`` is the name, or its beginning up to a whole part or some digits of its key."""
    key_begun = wanted.count("-") == 5
    return name == wanted or name.startswith(f"{wanted}-") or (key_begun and name.startswith(wanted))


def _fits(machine: Machine | None) -> Callable[[StoredEngine], bool]:
    return lambda entry: entry.manifest is not None and not incompatibilities(entry.manifest, machine)


def _single(entry: StoredEngine) -> bool:
    return entry.manifest is not None and entry.manifest.batch == 1


def _sync(folder: Path) -> None:
    """Flush a folder's files to the disk before a name makes them an engine."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # which cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
