"""Figures of a row that ``bench compare`` judges by one value each.

Figures that a row gives by round need no declaration: their names say which way is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from streamseg.benchmark.rows.run import Latency, Row, Spread

RATE, TAIL = 0.10, 0.25
"""Relative differences of rates and medians, and of p95 and p99, between runs of the same program."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of a row, and how it is judged."""

    name: str
    value: float | None
    """None if it was not measured."""
    judged: Literal["ratio", "value", "frames"] = "value"
    """``ratio``: a rate or a time, only for rows without rounds. ``value``: by a difference. ``frames``: a
    share of frames, which depends on their number and on the machine's speed."""
    tolerance: float = 0.0
    """The largest difference that does not count; of ratios relative."""
    relative: bool = False
    """Whether the tolerance of a value is relative."""
    less_is_better: bool = False
    count: int | None = None
    """Frames that a share is of, or rounds that a value is from; None if it does not matter."""
    spread: Spread | None = None
    """Least and most of the rounds, if known."""


class Counted(Protocol):
    """A record of frames that were offered."""

    @property
    def offered(self) -> int | None: ...
    @property
    def processed(self) -> int | None: ...
    @property
    def dropped(self) -> int | None: ...
    def has(self, key: str) -> bool: ...


class Timed(Counted, Protocol):
    """A record of frames that have an age budget."""

    @property
    def within_budget(self) -> float | None: ...


def rates(row: Row, *names: str) -> Iterator[Figure]:
    """Frames per second."""
    return (Figure(name, getattr(row, name), "ratio", RATE) for name in names if row.has(name))


def times(name: str, found: Latency) -> Iterator[Figure]:
    """Quantiles of times; more is worse."""
    for quantile, tolerance in (("p50", RATE), ("p95", TAIL), ("p99", TAIL)):
        if found.has(quantile):
            value = getattr(found, quantile)
            yield Figure(f"{name} {quantile}", value, "ratio", tolerance, less_is_better=True)


def values(row: Row, *names: str, tolerance: float) -> Iterator[Figure]:
    """Values of which more is better."""
    return (Figure(name, getattr(row, name), tolerance=tolerance) for name in names if row.has(name))


def sizes(row: Row, *names: str, tolerance: float) -> Iterator[Figure]:
    """Sizes in bytes, with a relative tolerance."""
    return (
        Figure(name, getattr(row, name), tolerance=tolerance, relative=True, less_is_better=True)
        for name in names
        if row.has(name)
    )


def dropped(prefix: str, found: Counted) -> Iterator[Figure]:
    """The share of the offered frames that were dropped."""
    if found.offered and found.dropped is not None:
        share = found.dropped / found.offered
        yield Figure(f"{prefix}dropped", share, "frames", less_is_better=True, count=found.offered)


def in_time(prefix: str, found: Timed) -> Iterator[Figure]:
    """The share of the processed frames that were displayed within the budget."""
    if found.has("within_budget"):
        count = found.processed or None
        yield Figure(f"{prefix}within_budget", found.within_budget, "frames", count=count)
