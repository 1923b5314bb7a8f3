"""What a mode of the pipeline might have come to."""

from streamseg.benchmark.frame_trace import FrameTrace, Span
from streamseg.benchmark.pipeline.run import EndToEnd
from streamseg.core.latency import Percentiles
from streamseg.core.types import InputSpec, State

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
MS = 1_000_000


def outcome(*ages_ms: int, fps: float | None = 20.0, notes: tuple[str, ...] = ()) -> EndToEnd:
    """Frames of these ages, one every 50 ms."""
    lives = tuple(
        FrameTrace(k, k * 50 * MS, (Span("infer", k * 50 * MS, (k * 50 + age) * MS),), (k * 50 + age) * MS)
        for k, age in enumerate(ages_ms)
    )
    ages = [age * MS for age in ages_ms]
    count = len(ages)
    return EndToEnd(
        count + 1,
        count,
        1,
        fps,
        1.0,
        {},
        Percentiles.of(ages),
        tuple(ages),
        {State.NERVE: count},
        lives,
        notes,
    )
