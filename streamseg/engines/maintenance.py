"""Cleaning the engine store: which engines may be removed, and why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamseg.core.hardware import Machine
from streamseg.engines.compatibility import incompatibilities
from streamseg.engines.integrity import is_engine_name
from streamseg.engines.manifest import FILE_NAME
from streamseg.engines.store import BUILDING, EngineStore, StoredEngine, os_lock, try_lock


@dataclass(frozen=True, slots=True)
class StoreFinding:
    """Something in the store that is not a good engine for this machine."""

    path: Path
    reason: str
    bytes: int
    """Size of its files together."""
    removable: bool
    """False for what may not be ours and is left alone."""


def findings(
    store: EngineStore,
    *,
    everything: bool = False,
    machine: Machine | None = None,
    versions: Mapping[str, str] | None = None,
) -> Iterator[StoreFinding]:
    """Damaged engines, engines that do not fit the machine, remains of killed builds; ``everything``: all.

    A folder is removable only if it has the name of an engine and nothing else was put into it. Other
    folders are not reported unless they hold a manifest. Raises EngineError for a store that cannot be read,
    SinkError for one whose locks cannot be taken.
    """
    for entry in store.entries():
        reason = _reason(store, entry, everything, machine, versions)
        if reason is None:
            continue
        foreign = _foreign(entry)
        if foreign:
            reason = f"{reason}; left alone, since {foreign}"
        yield StoreFinding(entry.path, reason, folder_bytes(entry.path), not foreign)
    for folder in leftovers(store):
        yield StoreFinding(folder, "left by a build that was killed", folder_bytes(folder), True)


def remove(store: EngineStore, finding: StoreFinding) -> bool:
    """Remove a finding; False if another process is building there. Raises SinkError."""
    if finding.path.parent != store.root / BUILDING:
        return store.remove(finding.path)
    if not _abandoned(store, finding.path):
        return False
    with store.writing():
        shutil.rmtree(finding.path)
        _lock_file(finding.path).unlink(missing_ok=True)
    return True


def leftovers(store: EngineStore) -> list[Path]:
    """Folders that killed builds left in the store; not those of running builds."""
    building = store.root / BUILDING
    if not building.is_dir():
        return []
    folders = (path for path in sorted(building.iterdir()) if path.is_dir() and not path.is_symlink())
    return [folder for folder in folders if _abandoned(store, folder)]


def _abandoned(store: EngineStore, folder: Path) -> bool:
    with store.writing():
        lock = os_lock(_lock_file(folder))
        if not try_lock(lock):
            return False
        lock.release()
        return folder.exists()


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def folder_bytes(folder: Path) -> int:
    """Size of a folder's files together; files that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _reason(
    store: EngineStore,
    entry: StoredEngine,
    everything: bool,
    machine: Machine | None,
    versions: Mapping[str, str] | None,
) -> str | None:
    if everything:
        return "asked for"
    if wrong := store.verify(entry.path):
        return f"damaged: {'; '.join(wrong)}"
    reasons = incompatibilities(entry.manifest, machine, versions) if entry.manifest else []
    return f"does not fit this machine: {'; '.join(reasons)}" if reasons else None


def _foreign(entry: StoredEngine) -> str:
    """Why a folder may not be ours to remove; empty if it is."""
    if entry.path.is_symlink():
        return "it is a link"
    if not is_engine_name(entry.name):
        return "no export gave it this name"
    if entry.manifest is None:
        return ""
    extra = sorted({path.name for path in entry.path.iterdir()} - {FILE_NAME, *entry.manifest.files})
    return f"it also holds {', '.join(extra)}" if extra else ""
