"""Results for machines (JSON) and for people (Markdown)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.core.errors import DataError
from streamseg.core.files import write_whole


def write_result(stem: Path, result: Mapping[str, Any], lines: Sequence[str]) -> tuple[Path, Path]:
    """Write ``stem``.json and ``stem``.md, each whole or as it was before; their paths. Raises SinkError."""
    paths = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    write_whole(paths[0], (json.dumps(result, indent=1) + "\n").encode())
    write_whole(paths[1], ("\n".join(lines) + "\n").encode())
    return paths


def read_result(path: Path) -> dict[str, Any]:
    """What an earlier run wrote; empty where there is no file. Raises DataError for one that is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no result of an earlier run ({error}); move it away") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no result of an earlier run; move it away")
    return found
