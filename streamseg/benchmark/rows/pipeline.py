"""A row of ``bench pipeline``: one mode of the whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamseg.benchmark.rows.figures import RATE, Figure, frames, times, values
from streamseg.benchmark.rows.run import EngineRef, Latency, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRow(Row):
    """One mode of the pipeline, all rounds together."""

    mode: str = ""
    """``replay`` or ``live``."""
    source_fps: float | None = None
    """Frames per second of a live source; null for a replay, which reads as fast as it can."""
    engine: EngineRef = field(default_factory=EngineRef.unknown)
    offered: int | None = None
    """Frames taken from the source."""
    processed: int | None = None
    """Frames that came out of the pipeline."""
    dropped: int | None = None
    fps: float | None = None
    """Processed frames per second, the median of the rounds."""
    age_ms: Latency = field(default_factory=Latency.unknown)
    """From the capture (of a file: the decoded frame) to the display."""
    stages_ms: dict[str, Latency] = field(default_factory=dict)
    """By stage of the pipeline; ``queue`` is the waiting between stages."""
    within_budget: float | None = None
    """Share of the processed frames, 0..1, displayed within the age budget; null for a replay."""
    states: dict[str, float] = field(default_factory=dict)
    """Seconds for which each state was displayed; frames of a replay."""
    age_over_time: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of measuring, and the age in milliseconds: the largest of each span."""
    waterfall: dict[str, list[tuple[str, float, float]]] | None = None
    """By ``p50`` and ``p99`` of the age, the stages of one such frame: name, begin and end in milliseconds
    since its capture."""

    def figures(self) -> Iterator[Figure]:
        yield from values(self, "fps", judged="ratio", tolerance=RATE)
        yield from times("age_ms", self.age_ms)
        yield from frames("", self)

    @property
    def engine_sha256(self) -> str | None:
        return self.engine.sha256

    @property
    def has_own_pace(self) -> bool:
        return self.source_fps is not None
