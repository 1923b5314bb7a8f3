"""The pipeline's modes, in turn, and their rows."""

import _thread
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import RunOutcome
from streamseg.benchmark.pipeline.bench import (
    OVERLOAD_KEY,
    Mode,
    PipelineOptions,
    engine_rate,
    measure_pipeline,
    mode_row,
)
from streamseg.benchmark.rotation import STOPPED
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.reading import COMMON, read_rows
from streamseg.benchmark.rows.run import RunInfo, write_rows
from streamseg.benchmark.terminal import lines
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.errors import EngineError, StreamsegError, UsageError
from streamseg.core.types import Tensor
from tests.benchmark.fakes import SPEC, Clock, live_outcome, outcome, small_kernels, write_clip

__all__ = ["small_kernels"]
FIELDS = {
    *COMMON, "mode", "source_fps", "engine", "offered", "processed", "dropped", "fps", "age_ms", "stages_ms",
    "within_budget", "states", "age_over_time", "waterfall",
}  # fmt: skip


def fake(delay_ms: float = 10.0, **options) -> FakeBackend:
    return FakeBackend(SPEC, delay_ms=delay_ms, **options)


@pytest.fixture(scope="module")
def measured(clip_path: Path):
    """Rows of two rounds with a fake engine, and what was said."""
    loaded: list[tuple[bool, FakeBackend]] = []

    def load(many: bool) -> FakeBackend:
        loaded.append((many, fake(lanes=2 if many else 1)))
        return loaded[-1][1]

    said: list[str] = []
    options = PipelineOptions(
        load,
        source=str(clip_path),
        paces=(20.0,),
        seconds=0.3,
        rounds=2,
        arguments=("bench", "pipeline"),
    )
    return measure_pipeline(options, said.append), said, loaded


def test_each_mode_has_a_row_with_all_its_figures(measured) -> None:
    rows, said, loaded = measured
    assert [row.key for row in rows] == ["replay small.mp4", "live 20 fps", OVERLOAD_KEY]
    assert [row.mode for row in rows] == ["replay", "live", "live"]
    for row in rows:
        assert row.to_json().keys() == FIELDS
        assert row.bench == "pipeline"
        assert row.offered == row.processed + row.dropped
        assert row.engine.backend == "fake"
        assert {len(values) for values in row.rounds.values()} == {2}
        assert row.run.command == "streamseg bench pipeline"
        assert row.run.source["name"] == "small.mp4"
        assert row.run.limits["fp32"].giga_per_s > 0
        assert row.run.stopped is False
        assert 0 < len(row.age_over_time) <= 400
        assert row.waterfall["p50"][0][1] == 0
    assert len(said) == 7
    assert said[0] == "measuring the machine's limits"
    assert [many for many, _ in loaded] == [True, False]
    assert all(engine.closed for _, engine in loaded)


def test_a_slow_machine_gets_fewer_rounds_and_what_finds_no_time_is_absent(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def modes(*_: object) -> list[Mode]:
        def run(seconds: float) -> RunOutcome:
            clock.work(2000)()
            return outcome(10.0, 20.0)

        return [Mode(key, fake(), None, run) for key in ("replay", "live")]

    monkeypatch.setattr("streamseg.benchmark.pipeline.bench._modes", modes)

    def rows_within(seconds: float) -> list[PipelineRow]:
        limit = TimeLimit(seconds, clock_ns=clock)
        return measure_pipeline(
            PipelineOptions(lambda many: fake(), source=str(clip_path), rounds=3, limit=limit), lambda _: None
        )

    rows = rows_within(11)  # two to warm up, two of the first round
    assert [row.notes for row in rows] == [["measured in 1 of 3 rounds: the run was to end in time"]] * 2
    assert rows[0].run.regime["total_seconds"] == 11
    (row,) = rows_within(7)
    assert row.key == "replay"
    assert row.run.absent == {"live": TOO_LATE}


def test_replay_drops_nothing_and_live_offers_what_was_asked_for(measured) -> None:
    replayed, live, overloaded = measured[0]
    assert replayed.dropped == 0
    assert replayed.within_budget is None
    assert replayed.states == {"nerve": replayed.processed}
    assert live.offered == 2 * 6
    assert 0 <= live.within_budget <= 1
    # A call takes 10 ms or more: twice that rate is at most 200 a second.
    assert overloaded.source_fps <= 200
    assert list(live.stages_ms) == ["wait", "preprocess", "infer", "postprocess", "display", "queue"]
    # Two runs of the same options are measured in the same way, whatever the engine's rate was.
    assert live.run.regime["paces_fps"] == [20.0]
    assert live.run.regime["overload"] == 2


def test_rows_are_strict_json_and_readable_again(measured, tmp_path: Path) -> None:
    rows = measured[0]
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == rows
    assert [row.to_json() for row in rows] == json.loads((tmp_path / "rows.json").read_text())


def test_tables_have_a_line_per_mode(measured) -> None:
    rows = measured[0]
    text = "\n".join(lines([replace(row, run=replace(row.run, others_share=0.31)) for row in rows]))
    assert "Other processes took 31 % of the processor meanwhile." in text
    for row in rows:
        assert text.count(f"| {row.key} |") == 2
    assert "| mode | decode | wait | preprocess | infer | postprocess | overlay | display | queue |" in text


def test_a_clip_of_one_frame_is_replayed_for_as_long_as_others(tmp_path: Path) -> None:
    source = str(write_clip(tmp_path / "one.mp4", 1))
    options = PipelineOptions(lambda many: fake(), source=source, paces=(), seconds=0.3, rounds=1)
    replayed = measure_pipeline(options, lambda line: None)[0]
    assert replayed.processed > 1
    assert replayed.fps is not None


def test_an_engine_that_fails_everywhere_is_an_error(clip_path: Path) -> None:
    options = PipelineOptions(lambda many: fake(fail_at=20), source=str(clip_path), paces=(), seconds=0.3)
    with pytest.raises(StreamsegError, match="call 20") as raised:
        measure_pipeline(options, lambda line: None)
    assert not isinstance(raised.value, EngineError)


class Interrupted(FakeBackend):
    """Ctrl-C comes when it is asked for an answer for so many times."""

    def __init__(self, at: int) -> None:
        super().__init__(SPEC, delay_ms=10.0)
        self.at = at

    def infer(self, tensor: Tensor) -> Any:
        if self.calls == self.at:
            _thread.interrupt_main()
        return super().infer(tensor)


def test_ctrl_c_keeps_the_rounds_that_are_finished(clip_path: Path) -> None:
    source = str(clip_path)
    said: list[str] = []

    def stopped_after(lines: int) -> Callable[[str], None]:
        def say(line: str) -> None:
            said.append(line)
            if len(said) == lines:
                raise KeyboardInterrupt

        return say

    # The machine's limits, and a round of replay.
    options = PipelineOptions(lambda many: fake(), source=source, paces=(20.0,), seconds=0.3, rounds=2)
    rows = measure_pipeline(options, stopped_after(2))
    assert [row.key for row in rows] == ["replay small.mp4"]
    run = rows[0].run
    assert run.stopped is True
    assert run.absent == {"live 20 fps": STOPPED, OVERLOAD_KEY: STOPPED}
    assert {len(values) for values in rows[0].rounds.values()} == {1}
    assert f"Absent: live 20 fps; {OVERLOAD_KEY}: {STOPPED}" in lines(rows)
    said.clear()
    with pytest.raises(KeyboardInterrupt):
        measure_pipeline(options, stopped_after(1))


def test_ctrl_c_while_a_mode_runs_ends_it(clip_path: Path) -> None:
    engines = [Interrupted(10_000), Interrupted(10_000)]
    before = set(threading.enumerate())

    def say(line: str) -> None:
        if "live 20 fps" in line:  # its first round is over: in the midst of the next run it comes
            for engine in engines:
                engine.at = engine.calls + 3

    options = PipelineOptions(
        lambda many: engines[not many],
        source=str(clip_path),
        paces=(20.0,),
        seconds=0.5,
        rounds=2,
    )
    rows = measure_pipeline(options, say)
    assert [row.key for row in rows] == ["replay small.mp4", "live 20 fps"]
    assert rows[0].run.absent == {OVERLOAD_KEY: STOPPED}
    assert all(engine.closed for engine in engines)
    assert set(threading.enumerate()) <= before


def test_the_engines_rate_is_that_of_its_calls(clip: Clip) -> None:
    assert 5 < engine_rate(fake(20.0), clip) <= 50


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seconds": 0.0}, {"paces": (0.0,)}, {"paces": (1e6,)}])
def test_a_plan_that_measures_nothing_is_refused(wrong) -> None:
    with pytest.raises(UsageError):
        PipelineOptions(lambda many: fake(), **wrong)


def row_of(*outcomes: RunOutcome, source_fps: float | None = None) -> PipelineRow:
    return mode_row(Mode("m", fake(), source_fps, lambda seconds: outcomes[0]), outcomes, RunInfo())


def test_rounds_are_taken_together_and_kept_apart() -> None:
    row = row_of(outcome(10, 20, fps=20.0, notes=("odd",)), outcome(30, 40, 900, fps=None, notes=("odd",)))
    assert (row.offered, row.processed, row.dropped) == (7, 5, 2)
    assert row.fps == 20.0
    assert row.age_ms.p50 == 30
    assert row.age_ms.max == 900
    assert row.rounds["age_p50_ms"] == [15, 40]
    assert row.rounds["processed_fps"] == [20.0, None]
    assert row.notes == ["odd"]
    times = [seconds for seconds, _ in row.age_over_time]
    assert times == sorted(times)
    assert max(age for _, age in row.age_over_time) == 900


def test_live_rounds_are_within_the_budget_by_their_frames() -> None:
    row = row_of(live_outcome(30), live_outcome(10, in_time=0), source_fps=30)
    assert (row.mode, row.within_budget) == ("live", 0.75)


def test_a_mode_without_a_frame_has_no_figures() -> None:
    row = row_of(outcome(fps=None), source_fps=30.0)
    assert row.fps is None
    assert row.to_json()["age_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}
    assert row.waterfall is None
    assert row.within_budget is None
    assert row_of(live_outcome(0), source_fps=30.0).within_budget is None
    assert "| m | 30 | 1 | 0 | 1 |" in lines([row])
