"""Reads results: a benchmark's own, and rows of other programs that have figures and little else."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.run import Row, RunInfo, decode, number
from streamseg.benchmark.rows.streams import StreamsRow
from streamseg.core.errors import DataError
from streamseg.engines.manifest import PRECISIONS

CLASSES: Mapping[str, type[Row]] = {
    "nets": NetRow,
    "pipeline": PipelineRow,
    "streams": StreamsRow,
    "peers": PeerRow,
}
COMMON = ("bench", "key", "run", "rounds", "notes")
"""Keys of every row that a benchmark writes."""
RATES = ("engine_fps", "end_to_end_fps", "fps")
"""Figures that other programs may give as a list, one value per round."""
KINDS = {dict: "an object", str: "a text", bool: "a truth value", NoneType: "null"}


def typed(row: Mapping[str, Any]) -> Row:
    """A row of its benchmark's class; :class:`Row` for benchmarks that are not known."""
    return decode(CLASSES.get(str(row.get("bench")), Row), row)


def read_rows(path: Path) -> list[Row]:
    """Read a result that a benchmark has written. Raises DataError for anything else."""
    found = _read_list(path)
    for index, row in enumerate(found):
        missing = [name for name in COMMON if not isinstance(row, dict) or name not in row]
        if missing:
            raise _no_result(path, f"row {index} lacks {', '.join(missing)}")
    return [typed(row) for row in found]


def read_results(path: Path) -> list[Row]:
    """Read the rows of any program that say what was measured: by a ``key``, or by ``net`` and ``backend``.

    What a row lacks is made from what it has: ``bench`` is ``nets``, the key is the one that ``bench nets``
    gives, and rounds are taken from ``durations_ms`` or from rates in lists. Rows without a key that would
    have the same one are numbered, the fastest first, so that two files can be compared. Raises DataError for
    anything but a list of such rows.
    """
    found = _read_list(path)
    rows = [_complete(row, index, path) for index, row in enumerate(found)]
    return _numbered(rows, [row.get("key") is None for row in found])


def _read_list(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a benchmark result ({error}); give a file written by --json"
        ) from error
    if not isinstance(found, list) or not found:
        raise _no_result(
            path, f"it holds {'an empty list' if found == [] else KINDS.get(type(found), 'a number')}"
        )
    return found


def _no_result(path: Path, why: str) -> DataError:
    return DataError(f"{path} is not a benchmark result: {why}; give a file written by --json")


def _complete(row: object, index: int, path: Path) -> Row:
    """The row with everything that can be made from what it has."""
    if not isinstance(row, dict):
        raise _no_result(path, f"row {index} is not an object")
    key = _key(row) if row.get("key") is None else str(row["key"])
    if not key:
        raise DataError(
            f"{path}: row {index} does not say what was measured; give it a key, or net and backend"
        )
    made = {**row, "bench": str(row.get("bench") or "nets"), "key": key}
    made |= {name: statistics.median(values) for name in RATES if (values := _numbers(row.get(name)))}
    if isinstance(note := row.get("notes"), str):
        made["notes"] = [note]
    if (milliseconds := number(row.get("latency_ms"))) is not None:
        made["latency_ms"] = {"p50": milliseconds}
    if isinstance(found := row.get("precision_found"), str):  # one name instead of shares
        del made["precision_found"]
        made |= {"precision_found": {found.lower(): 1.0}} if found.lower() in PRECISIONS else {}
    if calls := _numbers(row.get("durations_ms")):  # not by round
        made["durations_ms"] = [calls]
    if not isinstance(row.get("rounds"), dict) or not row["rounds"]:
        made["rounds"] = _rounds(row)
    done = typed(made)
    return done if done.run.given else replace(done, run=RunInfo(file=path.name, given=frozenset()))


def _numbered(rows: Sequence[Row], unnamed: Sequence[bool]) -> list[Row]:
    """Tell apart the rows of one key that was made here."""
    named = list(rows)
    made = [place for place, new in enumerate(unnamed) if new]
    for key, count in Counter(rows[place].key for place in made).items():
        same = [place for place in made if rows[place].key == key]
        same.sort(key=lambda place: -(getattr(rows[place], "engine_fps", None) or 0.0))
        for turn, place in enumerate(same if count > 1 else ()):
            named[place] = replace(rows[place], numbered=True, key=key + (f" ({turn + 1})" if turn else ""))
    return named


def _key(row: Mapping[str, Any]) -> str:
    """``unet openvino int8 192x224 b1``, as far as it is known; empty without net and back end."""
    words = [str(row[name]) for name in ("net", "backend", "precision") if row.get(name) not in (None, "")]
    if not words or (row.get("net") is None and row.get("backend") is None):
        return ""
    if row.get("folded") is False:
        words.append("as trained")
    if row.get("height") is not None and row.get("width") is not None:
        words.append(f"{row['height']}x{row['width']}")
    return " ".join([*words, f"b{1 if row.get('batch') is None else row['batch']}"])


def _rounds(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """Values by round, as far as a row without ``rounds`` has any."""
    found = {name: values for name in RATES if (values := _numbers(row.get(name)))}
    blocks = row.get("durations_ms")
    calls = [_numbers(block) for block in blocks] if isinstance(blocks, list) else []
    medians = [statistics.median(block) for block in calls if block]
    return {**found, **({"engine_ms": medians} if medians and "engine_fps" not in found else {})}


def _numbers(value: object) -> list[float]:
    """The numbers of a list; empty for anything else."""
    items = value if isinstance(value, list) else []
    return [known for item in items if (known := number(item)) is not None]
