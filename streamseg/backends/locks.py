"""Locks of the operating system, between processes: those of a process that was killed are free again."""

from __future__ import annotations

from pathlib import Path

# At the top, though only builders lock: it hooks into forks, and importing OpenVINO forks in a thread.
from filelock import BaseFileLock, FileLock, Timeout


def os_lock(path: Path, *, shared: bool = False) -> BaseFileLock:
    """The lock of a file, as yet not taken. ``shared``: within a thread, who has it may take it again."""
    return FileLock(path, is_singleton=shared)


def try_lock(lock: BaseFileLock) -> bool:
    """Take a lock; False where another has it. Raises OSError where the file cannot be written."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
