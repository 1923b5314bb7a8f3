"""A benchmark's result: a list of rows, each of which can stand alone.

Every row has

- ``bench``: ``nets``, ``pipeline``, ``streams`` or ``peers``
- ``key``: what was measured, unique within a run; the same in another run, so that two can be compared
- ``run``: where it is from (:func:`start_run`), the same in all rows of a run
- ``rounds``: per figure a list with one value per round of the interleaved measurement. A figure's name ends
  in its unit: less is better of ``_ms``, ``_s`` and ``_bytes``, more of ``_fps``.
- ``notes``: lines about what is wrong with it; empty where nothing is

and the figures of its kind. What is not known is null, never left out.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.benchmark.provenance import provenance
from streamseg.core.errors import DataError
from streamseg.core.files import finite, write_whole

Row = dict[str, Any]
BENCHES = ("nets", "pipeline", "streams", "peers")
COMMON = ("bench", "key", "run", "rounds", "notes")
PACKAGES = (
    "torch", "openvino", "nncf", "onnxruntime", "tensorrt", "torch-tensorrt", "opencv-python", "av", "numpy",
)  # fmt: skip


def start_run(
    arguments: Sequence[str],
    *,
    quick: bool,
    threads: int,
    source: Mapping[str, Any] | None,
    regime: Mapping[str, Any],
    packages: Sequence[str] = PACKAGES,
) -> dict[str, Any]:
    """Where a run is from, for its rows' ``run``; to be completed by :func:`finish_run`.

    ``arguments`` is the command line behind ``streamseg``; ``source`` what is known of the clip; ``regime``
    says in numbers how it was measured: rounds, block_seconds, warmup_calls, paces_fps and the like.
    """
    origin = provenance(packages=packages)
    return {
        "command": shlex.join(["streamseg", *map(_without_folders, arguments)]),
        "quick": quick,
        "date": origin["date"],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": origin["machine"],
        "threads": threads,
        "source": None if source is None else dict(source),
        "regime": dict(regime),
        "limits": {},
        "others_share": None,
        "absent": {},
        "seconds": None,
    }


def _without_folders(argument: str) -> str:
    """An argument as it may be published: folders may name a person."""
    path = Path(argument)
    return path.name if len(path.parts) > 1 and (path.exists() or path.parent.is_dir()) else argument


def finish_run(
    run: dict[str, Any],
    *,
    seconds: float,
    others_share: float | None,
    limits: Mapping[str, Any] | None = None,
    absent: Mapping[str, str] | None = None,
) -> None:
    """Add what is known at the end: ``limits`` by kind, and why what was asked for is ``absent``, by key."""
    run.update(
        seconds=round(seconds, 1),
        others_share=others_share,
        limits=dict(limits or {}),
        absent=dict(absent or {}),
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a result as a JSON list, whole or not at all. Raises SinkError."""
    text = json.dumps([finite(row) for row in rows], allow_nan=False, indent=1)
    write_whole(path, (text + "\n").encode())


def read_rows(path: Path) -> list[Row]:
    """Read a result. Raises DataError for what is none, naming what is wrong."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no result of a benchmark ({error}); give a file of --json") from error
    if not isinstance(found, list) or not found:
        raise DataError(
            f"{path} is no result of a benchmark: it holds no list of rows; give a file of --json"
        )
    for number, row in enumerate(found):
        missing = [name for name in COMMON if not isinstance(row, dict) or name not in row]
        if missing:
            raise DataError(
                f"{path} is no result of a benchmark: row {number} lacks {', '.join(missing)}; "
                "give a file of --json"
            )
    return found
