"""Files that appear whole or not at all, so that a reader, or a run that goes on, never meets half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from streamseg.core.errors import SinkError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the target, then rename over it; makes its folder. Raises SinkError."""
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            partial = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise SinkError(
            f"cannot write {path}: {error.strerror or error}; choose a folder with space"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
