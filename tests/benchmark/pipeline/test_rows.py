"""Rows of the pipeline's benchmark, from rounds that did not happen."""

from streamseg.backends import FakeBackend
from streamseg.benchmark.pipeline.rows import mode_row
from streamseg.benchmark.pipeline.turns import Mode
from streamseg.benchmark.terminal import lines
from tests.benchmark.pipeline.outcomes import SPEC, outcome


def fake() -> FakeBackend:
    return FakeBackend(SPEC)


def test_rounds_are_taken_together_and_kept_apart() -> None:
    rounds = [outcome(10, 20, fps=20.0, notes=("odd",)), outcome(30, 40, 900, fps=None, notes=("odd",))]
    row = mode_row(Mode("m", fake(), None, lambda seconds: outcome()), rounds, {"absent": {}})
    assert (row["offered"], row["processed"], row["dropped"]) == (7, 5, 2)
    assert row["fps"] == 20.0
    assert row["age_ms"]["p50"] == 30
    assert row["age_ms"]["max"] == 900
    assert row["rounds"]["age_p50_ms"] == [15, 40]
    assert row["rounds"]["processed_fps"] == [20.0, None]
    assert row["notes"] == ["odd"]
    times = [seconds for seconds, _ in row["age_over_time"]]
    assert times == sorted(times)
    assert max(age for _, age in row["age_over_time"]) == 900


def test_a_mode_without_a_frame_has_no_figures() -> None:
    row = mode_row(Mode("m", fake(), 30.0, lambda seconds: outcome()), [outcome(fps=None)], {"absent": {}})
    assert row["fps"] is None
    assert row["age_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}
    assert row["waterfall"] is None
    assert row["within_budget"] is None
    assert "| m | 30 | 1 | 0 | 1 |" in lines([row])
