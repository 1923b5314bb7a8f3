"""The figures that a row gives as one value although they vary: its rates, and quantiles of its times.

A row's rounds say more of them, and are compared in their place. These count where a row has no rounds, or
rounds that do not belong to its value: then one of the two is wrong, and who reads the value must know.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamseg.benchmark.compare.single import number
from streamseg.benchmark.compare.spread import ALONE, SAME, UNCLEAR, Change, between_values
from streamseg.benchmark.rows import Row

TAIL = 0.25
"""Of a p95 or p99 without rounds: what the same program differs by."""
NEAR = 0.08
"""How far from its rounds a value may lie, relative: it is of all calls, they are medians."""
FEW_CALLS = 5
"""In a round with fewer the slowest says nothing of the tail."""
RATES = ("engine_fps", "end_to_end_fps", "fps", "processed_fps")
TIMES = ("latency_ms", "age_ms")
QUANTILES = ("p50", "p95", "p99")
BY_ROUNDS = {
    "engine_fps": ("engine_ms", "engine_fps"),
    "end_to_end_fps": ("end_to_end_fps",),
    "fps": ("frame_ms", "processed_fps", "fps"),
    "processed_fps": ("processed_fps",),
    "latency_ms": ("engine_ms", "frame_ms"),
    "latency_ms p50": ("engine_ms", "frame_ms"),
    "age_ms p50": ("age_p50_ms",),
    "age_ms p99": ("age_p99_ms",),
}
"""The rounds that say more of a figure, the first that there is."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One value of a row."""

    name: str
    value: float | None
    range: tuple[float, float] | None
    """Least and most, where the row says so."""
    told: bool
    """Whether the row's rounds, or all of its calls, tell more of it and agree with it."""

    @property
    def less_is_better(self) -> bool:
        return not self.name.endswith("fps")


def headlines(row: Row) -> dict[str, Headline]:
    """A row's figures of this kind, by name."""
    return {
        name: Headline(name, value, _range(row, name), _told(row, name, value)) for name, value in _found(row)
    }


def tails(row: Row) -> list[float]:
    """The p99 of each round's calls, milliseconds; empty where a round has too few for one."""
    blocks = _calls(row)
    return [_quantile(block, 99) for block in blocks] if min(map(len, blocks), default=0) >= FEW_CALLS else []


def change_of_headline(a: Headline, b: Headline, machine: float | None = None) -> Change:
    """How B's value is to A's; ``machine`` as for rounds."""
    if a.value is None or b.value is None:
        which = "neither" if a.value == b.value else "A" if a.value is None else "B"
        return Change(SAME if a.value == b.value else UNCLEAR, why=f"not measured in {which}")
    least = TAIL if a.name.endswith(("p95", "p99")) else ALONE
    ranges = None if a.range is None or b.range is None else (a.range, b.range)
    less = a.less_is_better
    return between_values(a.value, b.value, less_is_better=less, least=least, ranges=ranges, machine=machine)


def _found(row: Row) -> Iterator[tuple[str, float | None]]:
    for name in RATES:
        if name in row:
            yield name, number(row[name])
    for name in TIMES:
        if isinstance(times := row.get(name), Mapping):
            yield from ((f"{name} {part}", number(times[part])) for part in QUANTILES if part in times)
        elif name in row:
            yield name, number(times)


def _range(row: Row, name: str) -> tuple[float, float] | None:
    """What a row says of least and most: ``engine_fps_spread`` with min and max, or as a pair."""
    given: Any = row.get(f"{name.replace(' ', '_')}_spread")
    pair = [given.get("min"), given.get("max")] if isinstance(given, Mapping) else given
    ends = [number(end) for end in pair] if isinstance(pair, list) and len(pair) == 2 else [None]
    known = [end for end in ends if end is not None]
    return (min(known), max(known)) if len(known) == 2 else None


def _told(row: Row, name: str, value: float | None) -> bool:
    """Whether the row's rounds or calls tell more of a value, and it may be theirs."""
    if value is None:
        return False
    for figure in BY_ROUNDS.get(name, ()):
        if values := [known for each in _values(row, figure) if (known := number(each)) is not None]:
            return _near(value, _as(name, figure, values, number(row.get("batch")) or 1.0))
    if not name.startswith("latency_ms p"):
        return any(_values(row, figure) for figure in row["rounds"])
    calls = [ms for block in _calls(row) for ms in block]
    if len(calls) < FEW_CALLS:
        return any(_values(row, figure) for figure in row["rounds"])
    return _near(value, [_quantile(calls, int(name[-2:]))])


def _quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _as(name: str, figure: str, values: list[float], batch: float) -> list[float]:
    """A figure's rounds in the value's unit."""
    if name.endswith("fps") and figure.endswith("_ms"):
        return [1e3 * batch / ms for ms in values if ms > 0]
    return values


def _near(value: float, values: list[float]) -> bool:
    return bool(values) and min(values) * (1 - NEAR) <= value <= max(values) * (1 + NEAR)


def _values(row: Row, figure: str) -> list[Any]:
    values = row["rounds"].get(figure)
    return values if isinstance(values, list) else []


def _calls(row: Row) -> list[list[float]]:
    """Milliseconds of every call by round, where a row has them so."""
    blocks = row.get("durations_ms")
    nested = [block for block in blocks if isinstance(block, list)] if isinstance(blocks, list) else []
    return [[known for ms in block if (known := number(ms)) is not None] for block in nested]
