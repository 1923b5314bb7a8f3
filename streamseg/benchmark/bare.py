"""Reads results that others may have written: rows with figures and little else get what they lack.

:func:`~streamseg.benchmark.rows.read_rows` takes a benchmark's own rows and no others. To compare and to show
rows it is enough that they say what was measured: a ``key``, or a ``net`` and how it was run.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.benchmark.compare.single import number
from streamseg.benchmark.rows import Row
from streamseg.core.errors import DataError

RATES = ("engine_fps", "end_to_end_fps", "fps")
"""Figures that may be given as a list, a value per round."""


def read_results(path: Path) -> list[Row]:
    """A result's rows, each with all that :mod:`~streamseg.benchmark.rows` says every row has.

    What a row lacks is made up from what it has: ``bench`` is ``nets``, the key as that benchmark makes it,
    the run is known by its file's name alone, ``durations_ms`` by round and rates in lists are its rounds.
    Rows without a key that would have the same one are numbered. Raises DataError for what is no list of
    rows, or a row that does not say what was measured.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no result of a benchmark ({error}); give a file of --json") from error
    if not isinstance(found, list) or not found:
        kind = "an empty list" if found == [] else _KINDS.get(type(found), "a truth value")
        raise DataError(f"{path} is no result of a benchmark: it holds {kind}; give a file of --json")
    rows = [_complete(row, index, path) for index, row in enumerate(found)]
    _number([row for row, given in zip(rows, found, strict=True) if given.get("key") is None])
    return rows


_KINDS = {dict: "an object", str: "a text", int: "a number", float: "a number", type(None): "null"}


def _complete(row: object, index: int, path: Path) -> Row:
    if not isinstance(row, dict):
        raise DataError(
            f"{path} is no result of a benchmark: row {index} is no object; give a file of --json"
        )
    key = _key(row) if row.get("key") is None else str(row["key"])
    if not key:
        raise DataError(
            f"{path}: row {index} does not say what was measured; give it a key, or net and backend"
        )
    run, notes = row.get("run"), row.get("notes")
    rounds = row.get("rounds")
    return {
        **row,
        **{name: statistics.median(values) for name in RATES if (values := _numbers(row.get(name)))},
        "bench": str(row.get("bench") or "nets"),
        "key": key,
        "run": run if isinstance(run, dict) and run else {"file": path.name},
        "rounds": rounds if isinstance(rounds, dict) and rounds else _rounds(row),
        "notes": notes if isinstance(notes, list) else [notes] if isinstance(notes, str) else [],
    }


def _number(rows: Sequence[Row]) -> None:
    """Tell rows of one key apart, the fastest first, whatever their order: two files are compared by them."""
    for key, count in Counter(row["key"] for row in rows).items():
        same = [row for row in rows if row["key"] == key]
        same.sort(key=lambda row: -(number(row.get("engine_fps")) or 0.0))
        for turn, row in enumerate(same if count > 1 else ()):
            row["numbered"] = True
            row["key"] += f" ({turn + 1})" if turn else ""


def _key(row: Mapping[str, Any]) -> str:
    """``unet openvino int8 192x224 b1``: what is known of it."""
    words = [str(row[name]) for name in ("net", "backend", "precision") if row.get(name) not in (None, "")]
    if not words or (row.get("net") is None and row.get("backend") is None):
        return ""
    if row.get("folded") is False:
        words.append("as trained")
    if row.get("height") is not None and row.get("width") is not None:
        words.append(f"{row['height']}x{row['width']}")
    return " ".join([*words, f"b{1 if row.get('batch') is None else row['batch']}"])


def _rounds(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """By figure the values of its rounds, as far as a row without rounds has any."""
    found = {name: values for name in RATES if (values := _numbers(row.get(name)))}
    blocks = row.get("durations_ms")
    calls = [_numbers(block) for block in blocks] if isinstance(blocks, list) else []
    medians = [statistics.median(block) for block in calls if block]
    return {**found, **({"engine_ms": medians} if medians and "engine_fps" not in found else {})}


def _numbers(value: object) -> list[float]:
    """The numbers of a list; empty for anything else."""
    items = value if isinstance(value, list) else []
    return [known for item in items if (known := number(item)) is not None]
