"""Rows of the pipeline's benchmark: what all rounds of a mode say together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.benchmark.frame_trace import FrameTrace, ages_of, over_time, stages_of, waterfall
from streamseg.benchmark.pipeline.run import Paced
from streamseg.benchmark.pipeline.turns import Mode, Outcome
from streamseg.benchmark.rows import Row
from streamseg.core.engine_info import EngineInfo
from streamseg.core.files import finite
from streamseg.core.latency import Percentiles
from streamseg.core.types import Backend


def mode_row(mode: Mode, outcomes: Sequence[Outcome], run: Mapping[str, Any]) -> Row:
    """What all rounds of a mode say together."""
    lives = [life for outcome in outcomes for life in outcome.lives]
    rates = [_rate(outcome) for outcome in outcomes]
    known = [rate for rate in rates if rate is not None]
    paced_runs = [outcome for outcome in outcomes if isinstance(outcome, Paced)]
    in_time = sum(outcome.within_budget * outcome.processed for outcome in paced_runs)
    processed = sum(outcome.processed for outcome in outcomes)
    row: Row = finite(
        {
            "bench": "pipeline",
            "key": mode.key,
            "run": run,
            "rounds": {
                "age_p50_ms": [round(outcome.age.p50_ms, 3) for outcome in outcomes],
                "age_p99_ms": [round(outcome.age.p99_ms, 3) for outcome in outcomes],
                "processed_fps": rates,
            },
            "notes": list(dict.fromkeys(note for outcome in outcomes for note in outcome.notes)),
            "mode": "replay" if mode.source_fps is None else "live",
            "source_fps": mode.source_fps,
            "engine": engine_of(mode.engine),
            "offered": sum(outcome.offered for outcome in outcomes),
            "processed": processed,
            "dropped": sum(outcome.dropped for outcome in outcomes),
            "fps": statistics.median(known) if known else None,
            "age_ms": Percentiles.of(ages_of(lives)).to_json(),
            "stages_ms": {stage: times.to_json() for stage, times in stages_of(lives).items()},
            "within_budget": round(in_time / processed, 4) if paced_runs and processed else None,
            "states": _states(outcomes),
            "age_over_time": over_time(_points([outcome.lives for outcome in outcomes])),
            "waterfall": waterfall(lives),
        }
    )
    return row


def engine_of(engine: Backend) -> dict[str, Any]:
    """What a result says about its engine."""
    info = EngineInfo.of(engine)
    return {**info.identity(), "precision": info.precision, "backend": info.backend}


def _rate(outcome: Outcome) -> float | None:
    rate = outcome.processed_fps if isinstance(outcome, Paced) else outcome.fps
    return None if rate is None else round(rate, 3)


def _states(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Seconds for which each state was displayed; of a replay, frames."""
    total: dict[str, float] = {}
    for outcome in outcomes:
        for state, amount in outcome.states.items():
            total[str(state)] = round(total.get(str(state), 0) + amount, 3)
    return total


def _points(rounds: Sequence[Sequence[FrameTrace]]) -> list[tuple[float, float]]:
    """Seconds of measuring so far, and age in milliseconds, of every frame: one round behind the other."""
    points: list[tuple[float, float]] = []
    for lives in rounds:
        begin = points[-1][0] if points else 0.0
        origin = min((life.captured_ns for life in lives), default=0)
        points += [(begin + (life.end_ns - origin) / 1e9, life.age_ns / 1e6) for life in lives]
    return points
