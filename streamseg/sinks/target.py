"""The file that a sink writes: overwritten only with ``force``, and only once the new file exists."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamseg.core.errors import SinkError, UsageError, one_line

_NUMBERS = itertools.count()


class Target:
    """The path of an output, and the temporary file that will become it.

    Checks the path on construction, so that wrong usage costs no work: raises UsageError if the file exists
    and ``force`` is not set, or the path is not a regular file, and SinkError if it cannot be written. A
    missing parent folder is created. An existing file stays until :meth:`publish`.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path
        with sink_errors(path, RuntimeError):  # A loop of links is a RuntimeError.
            self._real = path.resolve()  # A link keeps pointing to the file that is replaced.
            if self._real.exists() and not self._real.is_file():
                raise UsageError(f"output {path} is not a regular file; give the name of a file to write")
            if self._real.exists() and not force:
                raise UsageError(f"output {path} exists; choose another name, or overwrite it with --force")
            name = f".streamseg-{os.getpid()}-{next(_NUMBERS)}.part{self._real.suffix}"
            self.part = self._real.with_name(name)
            """File to write until :meth:`publish`: in the same folder, with the same suffix."""
            self.part.parent.mkdir(parents=True, exist_ok=True)
            # Only creating a file shows whether one can be created (permissions, read-only mounts, ...).
            self.part.touch()
            self.part.unlink()

    def publish(self) -> None:
        """Give the file its final name, atomically replacing an older one. Raises SinkError."""
        with sink_errors(self.path):
            self.part.replace(self._real)

    def discard(self) -> None:
        """Remove the temporary file."""
        self.part.unlink(missing_ok=True)


@contextmanager
def sink_errors(path: Path, *drivers: type[Exception]) -> Iterator[None]:
    """Translate errors of the operating system, and of ``drivers``, into SinkError with a remedy."""
    caught: tuple[type[Exception], ...] = (OSError, *drivers)
    try:
        yield
    except caught as error:
        raise SinkError(f"cannot write {path}: {_reason_and_remedy(error)}") from error


def _reason_and_remedy(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; choose a folder that you may write to"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a part of its path is a file, not a folder; choose another name"
    what = one_line(error)
    remedies = {
        "No space left on device": "free some space; what was finished before is readable",
        "Disk quota exceeded": "free some space; what was finished before is readable",
        "File too large": "the limit on file sizes was reached; what was finished before is readable",
    }
    return f"{what}; {remedies.get(what, 'choose another place to write to')}"
