"""Files of a report: each appears whole or not at all, so that a run killed at any moment can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamseg.core.errors import DataError
from streamseg.core.files import write_whole


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8. Raises SinkError."""
    write_whole(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, a key a line, short lists on one. Raises SinkError, and ValueError for NaN."""
    lines = (f" {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None where there is none. Raises DataError for a damaged one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; remove it, and what it held is made again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; remove it, and what it held is made again")
    return value
