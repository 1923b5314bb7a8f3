"""A row of ``bench peers``: another program, or ours beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamseg.benchmark.rows.figures import RATE, Figure, times, values
from streamseg.benchmark.rows.run import Latency, Row, Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow(Row):
    """Another program, or ours of the same kind."""

    kind: str = ""
    """``runtime``, ``pipeline`` or ``net``."""
    name: str = ""
    ours: bool | None = None
    against: str | None = None
    """Name of ours that it is compared with."""
    precision: str = ""
    fps: float | None = None
    latency_ms: Latency = field(default_factory=Latency.unknown)
    """Of every call; null for pipelines, whose calls are runs over a whole clip."""
    ratio: Spread = field(default_factory=Spread.unknown)
    """How many times as fast ours is, within each round."""
    why: str | None = None
    """What is known of the cause of the difference in speed."""
    version: str | None = None
    settings: str | None = None
    """What it does and how it was set up, as far as that bears on its speed."""
    frames: int | None = None
    """Frames given to a call."""
    delivered: int | None = None
    """Frames that came out of a call: the fewest of any."""
    calls: int | None = None
    """Counted calls."""
    durations_ms: list[list[float]] | None = None
    """Every call, by round; null for pipelines."""
    processor_ms: float | None = None
    """Processor time per frame, over all threads."""
    gflop_per_s: float | None = None
    gflop: float | None = None
    """10^9 operations per frame, 2 per multiply-add."""
    parameters: int | None = None
    """Of a net."""
    normalisations: int | None = None
    """Normalisation layers that a net computes; batch normalisation that is folded away is not one."""
    difference: float | None = None
    """The largest difference of any pixel's probability to the reference's."""
    mask_dice: float | None = None
    """Mean Dice of its masks and the reference's (runtimes) or ours (pipelines)."""
    ready_s: float | None = None
    """From the weights to the first answer."""

    def figures(self) -> Iterator[Figure]:
        yield from values(self, "fps", judged="ratio", tolerance=RATE)
        yield from times("latency_ms", self.latency_ms)
