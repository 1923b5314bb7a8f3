"""Writes files whole or not at all, so that no reader and no resumed run meets half a file; strict JSON."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamseg.core.errors import DataError, SinkError


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8. Raises SinkError."""
    write_whole(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, one key per line. Raises SinkError, and ValueError for NaN."""
    lines = (f" {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None if there is no file. Raises DataError for a damaged one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; remove it, so that it is made again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; remove it, so that it is made again")
    return value


def finite(value: Any) -> Any:
    """The value as strict JSON: numbers that are not finite become None, keys text, and tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_whole(path: Path, data: bytes) -> None:
    """Write a temporary file beside the target, then rename it; makes the folder. Raises SinkError."""
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


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts ``f2.png`` before ``f10.png``."""
    parts = re.split(r"(\d+)", path.name.casefold())
    # Every part becomes a triple of one type, so that numbers and text never meet in a comparison.
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name
