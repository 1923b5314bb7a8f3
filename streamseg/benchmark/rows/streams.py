"""A row of ``bench streams``: a number of live streams at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamseg.benchmark.rows.figures import RATE, Figure, frames, times, values
from streamseg.benchmark.rows.run import EngineRef, Latency, Record, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFigures(Record):
    """One of the streams, all rounds together."""

    offered: int | None = None
    processed: int | None = None
    """Frames that were segmented."""
    dropped: int | None = None
    processed_fps: float | None = None
    displayed_fps: float | None = None
    """Outlines on display per second."""
    age_ms: Latency = field(default_factory=Latency.unknown)
    within_budget: float | None = None
    """Share of the processed frames, 0..1, that were within the age budget."""
    page_age_ms: Latency = field(default_factory=Latency.unknown)
    """From the capture to the arrival at the page, of the outlines that arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsRow(Row):
    """A number of live streams at the same time, all rounds together."""

    streams: int | None = None
    source_fps: float | None = None
    """Frames per second of each stream."""
    budget_ms: float | None = None
    """Age budget of an outline."""
    engine: EngineRef = field(default_factory=EngineRef.unknown)
    batch: int | None = None
    """Frames that the engine takes in a call."""
    lanes: int | None = None
    """Calls that the engine computes at the same time."""
    offered: int | None = None
    """Frames of all streams."""
    processed: int | None = None
    dropped: int | None = None
    per_stream: list[StreamFigures] = field(default_factory=list)
    processed_fps: float | None = None
    """Of all streams together."""
    age_ms: Latency = field(default_factory=Latency.unknown)
    """From the capture to the display, over all streams."""
    page_age_ms: Latency = field(default_factory=Latency.unknown)
    """From the capture to the arrival at the page, of the outlines that arrived, over all streams."""
    engine_fps: float | None = None
    """Frames per second of the engine alone with the same lanes, measured in turn with the streams."""
    within_budget: float | None = None
    """Of the stream with the smallest share."""
    holds_budget: bool | None = None
    """Whether every stream displays at least 99 % of its outlines within the budget."""
    holds_every_frame: bool | None = None
    """Whether, in addition, every stream segments at least 99 % of its frames."""
    processor_share: float | None = None
    """Share of all cores' time, 0..1, that this process took."""
    batch_fill: float | None = None
    """Mean number of frames in a call."""

    def figures(self) -> Iterator[Figure]:
        yield from values(self, "processed_fps", judged="ratio", tolerance=RATE)
        yield from times("age_ms", self.age_ms)
        yield from frames("", self)
        for name in ("holds_budget", "holds_every_frame"):
            if (held := getattr(self, name)) is not None:
                yield Figure(name, float(held), "frames")

    @property
    def engine_sha256(self) -> str | None:
        return self.engine.sha256

    @property
    def has_own_pace(self) -> bool:
        return self.source_fps is not None

    @property
    def engine_share(self) -> float | None:
        """Frames per second of all streams, as a share of those of the engine alone."""
        known = self.engine_fps and self.processed_fps is not None
        return self.processed_fps / self.engine_fps if known else None  # type: ignore[operator]

    @property
    def each_fps(self) -> float | None:
        """Frames per second that each stream got on average."""
        known = self.streams and self.processed_fps is not None
        return self.processed_fps / self.streams if known else None  # type: ignore[operator]
