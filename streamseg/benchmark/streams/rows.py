"""Rows of the benchmark of streams, and when a number of streams is held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamseg.benchmark.pipeline.rows import engine_of
from streamseg.benchmark.rows import Row
from streamseg.benchmark.streams.run import Offer, StreamCount, StreamsRun
from streamseg.core.engine_info import EngineInfo
from streamseg.core.files import finite
from streamseg.core.latency import Percentiles
from streamseg.core.types import Backend

HELD_SHARE = 0.99
"""Of a stream's outlines that have to be within the budget, and of its frames that have to be segmented where
it is said that every one is: one in a hundred is allowed for."""
LEAST_FPS = 5.0
"""A stream with fewer outlines on display in a second is left without."""


def key_of(count: int) -> str:
    """The row's key."""
    return f"{count} stream" if count == 1 else f"{count} streams"


def pooled(runs: Sequence[StreamsRun]) -> list[StreamCount]:
    """Each stream over all rounds."""
    found = []
    for rounds in zip(*(run.streams for run in runs), strict=True):
        found.append(
            StreamCount(
                offered=sum(each.offered for each in rounds),
                processed=sum(each.processed for each in rounds),
                in_time=sum(each.in_time for each in rounds),
                displayed=sum(each.displayed for each in rounds),
                ages_ns=tuple(age for each in rounds for age in each.ages_ns),
                seconds=sum(each.seconds for each in rounds),
                notes=tuple(dict.fromkeys(note for each in rounds for note in each.notes)),
            )
        )
    return found


def in_budget(streams: Sequence[StreamCount], offer: Offer) -> bool:
    """Whether each of them is held."""
    least = min(LEAST_FPS, HELD_SHARE * offer.fps)
    return all(stream.within_budget >= HELD_SHARE and stream.displayed_fps >= least for stream in streams)


def streams_row(
    count: int, runs: Sequence[StreamsRun], offer: Offer, backend: Backend, run: dict[str, Any]
) -> Row:
    """What all rounds of a number of streams say together; at least one."""
    streams = pooled(runs)
    ages = [Percentiles.of([age for stream in each.streams for age in stream.ages_ns]) for each in runs]
    offered, processed = (
        sum(getattr(stream, name) for stream in streams) for name in ("offered", "processed")
    )
    figures: dict[str, Any] = finite(
        {
            "rounds": {
                "processed_fps": [round(sum(stream.fps for stream in each.streams), 3) for each in runs],
                "age_p50_ms": [round(age.p50_ms, 3) for age in ages],
                "age_p99_ms": [round(age.p99_ms, 3) for age in ages],
            },
            "offered": offered,
            "processed": processed,
            "dropped": offered - processed,
            "per_stream": [_stream(stream) for stream in streams],
            "processed_fps": round(sum(stream.fps for stream in streams), 3),
            "age_ms": Percentiles.of([age for stream in streams for age in stream.ages_ns]).to_json(),
            "within_budget": round(min(stream.within_budget for stream in streams), 5),
            "holds_budget": in_budget(streams, offer),
            "holds_every_frame": in_budget(streams, offer)
            and all(stream.processed >= HELD_SHARE * stream.offered for stream in streams),
            "processor_share": _mean([each.processor_share for each in runs]),
            "batch_fill": _mean([each.fill for each in runs]),
        }
    )
    return {
        "bench": "streams",
        "key": key_of(count),
        "run": run,
        "notes": [f"stream {n}: {note}" for n, stream in enumerate(streams, 1) for note in stream.notes],
        "streams": count,
        "source_fps": offer.fps,
        "budget_ms": offer.budget_s * 1e3,
        "engine": engine_of(backend),
        "batch": EngineInfo.of(backend).batch,
        "lanes": EngineInfo.of(backend).lanes,
        **figures,
    }


def _stream(stream: StreamCount) -> dict[str, Any]:
    return {
        "offered": stream.offered,
        "processed": stream.processed,
        "dropped": stream.dropped,
        "processed_fps": round(stream.fps, 3),
        "displayed_fps": round(stream.displayed_fps, 3),
        "age_ms": Percentiles.of(list(stream.ages_ns)).to_json(),
        "within_budget": round(stream.within_budget, 5),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
