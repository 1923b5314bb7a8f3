"""Rows of made-up results, to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamseg.benchmark.rows.reading import typed
from streamseg.benchmark.rows.run import Row, RunInfo, decode

RUN = {
    "command": "streamseg bench nets",
    "quick": False,
    "date": "2026-11-22",
    "machine": {
        "processor": "Xeon",
        "cores": 2,
        "features": ["avx2"],
        "load": 0.1,
        "power": {"governor": "performance", "supply": "mains", "gpu": None},
        "python": "3.11.7",
        "openvino": "2026.4.1",
        "commit": "abc",
    },
    "threads": 2,
    "source": {"name": "phantom", "uri": "/tmp/a/phantom.mp4", "frames": 64},
    "regime": {"rounds": 5, "paces_fps": [30, 60]},
    "limits": {},
    "others_share": 0.0,
    "absent": {},
}


def run(**changes: Any) -> RunInfo:
    """A run with some of it changed; ``machine`` changes within the machine."""
    machine = {**RUN["machine"], **changes.pop("machine", {})}  # type: ignore[dict-item]
    return decode(RunInfo, {**RUN, "machine": machine, **changes})


def row(
    key: str = "net openvino int8",
    ms: Sequence[float | None] = (10.0, 10.1, 9.9, 10.05, 9.95),
    *,
    bench: str = "nets",
    of: RunInfo | None = None,
    **figures: Any,
) -> Row:
    """A row with one figure by round, and the given keys."""
    made = {"rounds": {"engine_ms": list(ms)}, "notes": [], **figures}
    return typed({"bench": bench, "key": key, "run": (of or run()).to_json(), **made})


def slower(times: float, ms: Sequence[float] = (10.0, 10.1, 9.9, 10.05, 9.95)) -> list[float]:
    return [value * times for value in ms]
