"""Figures of a row that ``bench compare`` judges by one value each.

Figures that a row gives by round need no declaration: their names say which way is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from streamseg.benchmark.rows.nets import Pace
    from streamseg.benchmark.rows.pipeline import PipelineRow
    from streamseg.benchmark.rows.run import Latency, Row, Spread
    from streamseg.benchmark.rows.streams import StreamsRow

Judged = Literal["ratio", "value", "frames"]
"""``ratio``: a rate or a time, only for rows without rounds. ``value``: by a difference. ``frames``: a share
of frames, which depends on their number and on the machine's speed."""
RATE, TAIL = 0.10, 0.25
"""Relative differences of rates and medians, and of p95 and p99, between runs of the same program."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of a row, and how it is judged."""

    name: str
    value: float | None
    """None if it was not measured."""
    judged: Judged = "value"
    tolerance: float = 0.0
    """The largest difference that does not count; of ratios relative."""
    relative: bool = False
    """Whether the tolerance of a value is relative."""
    less_is_better: bool = False
    count: int | None = None
    """Frames that a share is of, or rounds that a value is from; None if it does not matter."""
    spread: Spread | None = None
    """Least and most of the rounds, if known."""


def values(
    row: Row,
    *names: str,
    tolerance: float,
    judged: Judged = "value",
    relative: bool = False,
    less_is_better: bool = False,
) -> Iterator[Figure]:
    """Figures that are judged in the same way, as far as the row has them."""
    for name in names:
        if row.has(name):
            yield Figure(name, getattr(row, name), judged, tolerance, relative, less_is_better)


def times(name: str, found: Latency) -> Iterator[Figure]:
    """Quantiles of times."""
    for quantile, tolerance in (("p50", RATE), ("p95", TAIL), ("p99", TAIL)):
        if found.has(quantile):
            value = getattr(found, quantile)
            yield Figure(f"{name} {quantile}", value, "ratio", tolerance, less_is_better=True)


def lost(prefix: str, dropped: int | None, offered: int | None) -> Iterator[Figure]:
    """The share of the offered frames that were dropped."""
    if offered and dropped is not None:
        yield Figure(f"{prefix}dropped", dropped / offered, "frames", less_is_better=True, count=offered)


def frames(prefix: str, found: Pace | PipelineRow | StreamsRow) -> Iterator[Figure]:
    """The shares of frames that were dropped, and of processed ones that were displayed in time."""
    yield from lost(prefix, found.dropped, found.offered)
    if found.has("within_budget"):
        count = found.processed or None
        yield Figure(f"{prefix}within_budget", found.within_budget, "frames", count=count)
