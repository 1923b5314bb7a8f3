"""Reads figures out of a result's rows, and puts them into words.

Rows come from files: a figure that is missing, null or of another kind than it should be is unknown here, and
never an error; unknown is a dash in a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from streamseg.benchmark.compare.single import number as finite_number
from streamseg.benchmark.rows import Row
from streamseg.reporting.formatting import count, figure, percent

TITLES = {
    "improved_unet": "improved U-Net",
    "unet": "U-Net",
    "segnet": "SegNet",
    "eager": "torch eager",
    "openvino": "OpenVINO",
    "onnx": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "compiled": "torch.compile",
}
"""Nets and back ends, for people."""
BUDGET_MS = 150.0
"""Age of an outline that is displayed no more, where a run does not say another."""

LARGEST = 1e15
"""Of bytes, nanoseconds or operations: no chart has room for more."""


def title(name: str) -> str:
    """What people call a net or a back end."""
    return TITLES.get(name, name)


def at(found: object, *path: str) -> object:
    """The value under these keys, one within another; None where there is none."""
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def number(found: object, *path: str) -> float | None:
    """The number there; None for what is none, or larger than anything that is measured."""
    known = finite_number(at(found, *path))
    return known if known is not None and abs(known) <= LARGEST else None


def text(found: object, *path: str) -> str:
    """The text there, or what is there as text; empty where nothing is."""
    value = at(found, *path)
    return "" if value is None else str(value)


def mapping(found: object, *path: str) -> Mapping[str, Any]:
    """The object there; empty where there is none."""
    value = at(found, *path)
    return value if isinstance(value, Mapping) else {}


def items(found: object, *path: str) -> list[Any]:
    """The list there; empty where there is none."""
    value = at(found, *path)
    return list(value) if isinstance(value, list | tuple) else []


def numbers(found: object, *path: str) -> list[float]:
    """The finite numbers of the list there, in order, those of lists within it included."""
    flat: list[float | None] = []
    for item in items(found, *path):
        flat += numbers(item) if isinstance(item, list | tuple) else [number(item)]
    return [value for value in flat if value is not None]


def spread(found: object, *path: str) -> str:
    """``median (least to most)`` of a spread."""
    median, least, most = (number(found, *path, name) for name in ("median", "min", "max"))
    if median is None or least is None or most is None or least == most:
        return figure(median)
    return f"{figure(median)} ({figure(least)} to {figure(most)})"


def shares(found: Mapping[str, Any]) -> str:
    """``int8 96 %, fp32 4 %``: the largest first."""
    known = [(name, share) for name in found if (share := number(found, name)) is not None]
    return ", ".join(f"{name} {percent(share)}" for name, share in sorted(known, key=lambda pair: -pair[1]))


def size(row: Row) -> str:
    """``192x224``, and the batch where it is not 1."""
    if number(row, "height") is None and number(row, "width") is None:
        return "an unknown size"
    batch = number(row, "batch")
    several = "" if batch in (None, 1) else f", batch {count(batch)}"
    return f"{count(number(row, 'height'))}x{count(number(row, 'width'))}{several}"


def variant(row: Row) -> str:
    """How a net was run: ``OpenVINO INT8``."""
    words = f"{title(text(row, 'backend'))} {text(row, 'precision').upper()}"
    folded = at(row, "folded")
    if text(row, "backend") != "eager" or not isinstance(folded, bool):
        return words.strip()
    return f"{words}, folded" if folded else f"{words}, as trained"


def by_net(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """The rows net by net, each behind the net's title, which says it where all its weights are random."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(text(row, "net"), []).append(row)
    random = {net: all(at(row, "trained") is False for row in own) for net, own in found.items()}
    return [(title(net) + " (random weights)" * random[net], own) for net, own in found.items()]


def by_size(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """The rows size by size."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(size(row), []).append(row)
    return list(found.items())


def of_bench(rows: Iterable[Row], bench: str) -> list[Row]:
    """The rows of one benchmark."""
    return [row for row in rows if text(row, "bench") == bench]


def runs_of(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows by the run that they are from, in order; a row that stands there twice counts once."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        same = found.setdefault(json.dumps(row.get("run"), sort_keys=True, default=str), [])
        if row not in same:
            same.append(row)
    return list(found.values())


def run_name(index: int) -> str:
    """A run's name in a report of several."""
    return f"run {index + 1}"


def budget_of(run: object) -> float:
    """The run's age budget, milliseconds."""
    return number(run, "regime", "budget_ms") or BUDGET_MS


def engine_of(rows: Iterable[Row]) -> str:
    """The engine that a benchmark ran, several with a comma; empty where its rows do not say so."""
    return ", ".join(dict.fromkeys(name for row in rows if (name := text(row, "engine", "name"))))


def machine(run: object) -> str:
    """The machine for people, such as ``Intel(R) Xeon(R) Processor, 2 cores``; its GPU first, if any."""
    words = [text(run, "machine", "gpu"), text(run, "machine", "processor") or "an unnamed processor"]
    cores = number(run, "machine", "cores")
    return ", ".join([word for word in words if word] + ([f"{count(cores)} cores"] if cores else []))
