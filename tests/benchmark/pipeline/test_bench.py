"""The pipeline's modes, in turns, and the rows that come of them."""

import _thread
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.pipeline.bench import (
    OVERLOAD_KEY,
    PipelineOptions,
    engine_rate,
    measure_pipeline,
)
from streamseg.benchmark.rows import COMMON, read_rows, write_rows
from streamseg.benchmark.terminal import lines
from streamseg.benchmark.timing import STOPPED
from streamseg.core.errors import EngineError, StreamsegError, UsageError
from streamseg.core.types import InputSpec, Tensor
from tests.benchmark.small_clip import small_clip, write_clip

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
FIELDS = {
    *COMMON, "mode", "source_fps", "engine", "offered", "processed", "dropped", "fps", "age_ms", "stages_ms",
    "within_budget", "states", "age_over_time", "waterfall",
}  # fmt: skip


def fake(delay_ms: float = 10.0, **options) -> FakeBackend:
    return FakeBackend(SPEC, delay_ms=delay_ms, **options)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    """Rows of two rounds with a fake engine, and what was said."""
    folder = tmp_path_factory.mktemp("clip")
    loaded: list[tuple[bool, FakeBackend]] = []

    def load(many: bool) -> FakeBackend:
        loaded.append((many, fake(lanes=2 if many else 1)))
        return loaded[-1][1]

    said: list[str] = []
    options = PipelineOptions(
        load,
        source=str(write_clip(folder / "small.mp4")),
        paces=(20.0,),
        seconds=0.5,
        rounds=2,
        arguments=("bench", "pipeline"),
    )
    return measure_pipeline(options, said.append), said, loaded


def test_each_mode_has_a_row_with_all_its_figures(measured) -> None:
    rows, said, loaded = measured
    assert [row["key"] for row in rows] == ["replay small.mp4", "live 20 fps", OVERLOAD_KEY]
    assert [row["mode"] for row in rows] == ["replay", "live", "live"]
    for row in rows:
        assert set(row) == FIELDS
        assert row["bench"] == "pipeline"
        assert row["offered"] == row["processed"] + row["dropped"]
        assert row["engine"]["backend"] == "fake"
        assert {len(values) for values in row["rounds"].values()} == {2}
        assert row["run"]["command"] == "streamseg bench pipeline"
        assert row["run"]["source"]["name"] == "small.mp4"
        assert row["run"]["limits"]["fp32"]["giga_per_s"] > 0
        assert row["run"]["stopped"] is False
        assert 0 < len(row["age_over_time"]) <= 400
        assert row["waterfall"]["p50"][0][1] == 0
    assert len(said) == 7
    assert said[0] == "measuring the machine's limits"
    assert [many for many, _ in loaded] == [True, False]
    assert all(engine.closed for _, engine in loaded)


def test_replay_drops_nothing_and_live_offers_what_was_asked_for(measured) -> None:
    replayed, live, overloaded = measured[0]
    assert replayed["dropped"] == 0
    assert replayed["within_budget"] is None
    assert replayed["states"] == {"nerve": replayed["processed"]}
    assert live["offered"] == 2 * 10
    assert 0 <= live["within_budget"] <= 1
    # A call takes 10 ms or more: twice that rate is at most 200 a second.
    assert overloaded["source_fps"] <= 200
    assert list(live["stages_ms"]) == ["wait", "preprocess", "infer", "postprocess", "display", "queue"]
    # Two runs of the same options are measured in the same way, whatever the engine's rate was.
    assert live["run"]["regime"]["paces_fps"] == [20.0]
    assert live["run"]["regime"]["overload"] == 2


def test_rows_are_strict_json_and_readable_again(measured, tmp_path: Path) -> None:
    rows = measured[0]
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == json.loads(json.dumps(rows, allow_nan=False))


def test_tables_have_a_line_per_mode(measured) -> None:
    rows = measured[0]
    text = "\n".join(lines([{**row, "run": {**row["run"], "others_share": 0.31}} for row in rows]))
    assert "Other processes took 31 % of the processor meanwhile." in text
    for row in rows:
        assert text.count(f"| {row['key']} |") == 2
    assert "| mode | decode | wait | preprocess | infer | postprocess | overlay | display | queue |" in text


def test_a_clip_of_one_frame_is_replayed_for_as_long_as_others(tmp_path: Path) -> None:
    source = str(write_clip(tmp_path / "one.mp4", 1))
    options = PipelineOptions(lambda many: fake(), source=source, paces=(), seconds=0.4, rounds=1)
    replayed = measure_pipeline(options, lambda line: None)[0]
    assert replayed["processed"] > 1
    assert replayed["fps"] is not None


def test_an_engine_that_fails_everywhere_is_an_error(tmp_path: Path) -> None:
    options = PipelineOptions(
        lambda many: fake(fail_at=20), source=str(write_clip(tmp_path / "small.mp4")), paces=(), seconds=0.3
    )
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


def test_ctrl_c_keeps_the_rounds_that_are_finished(tmp_path: Path) -> None:
    source = str(write_clip(tmp_path / "small.mp4"))
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
    assert [row["key"] for row in rows] == ["replay small.mp4"]
    run = rows[0]["run"]
    assert run["stopped"] is True
    assert run["absent"] == {"live 20 fps": STOPPED, OVERLOAD_KEY: STOPPED}
    assert {len(values) for values in rows[0]["rounds"].values()} == {1}
    assert "Absent: live 20 fps: " + STOPPED in lines(rows)
    said.clear()
    with pytest.raises(KeyboardInterrupt):
        measure_pipeline(options, stopped_after(1))


def test_ctrl_c_while_a_mode_runs_ends_it(tmp_path: Path) -> None:
    engines = [Interrupted(10_000), Interrupted(10_000)]
    before = set(threading.enumerate())

    def say(line: str) -> None:
        if "live 20 fps" in line:  # its first round is over: in the midst of the next run it comes
            for engine in engines:
                engine.at = engine.calls + 3

    options = PipelineOptions(
        lambda many: engines[not many],
        source=str(write_clip(tmp_path / "small.mp4")),
        paces=(20.0,),
        seconds=0.5,
        rounds=2,
    )
    rows = measure_pipeline(options, say)
    assert [row["key"] for row in rows] == ["replay small.mp4", "live 20 fps"]
    assert rows[0]["run"]["absent"] == {OVERLOAD_KEY: STOPPED}
    assert all(engine.closed for engine in engines)
    assert set(threading.enumerate()) <= before


def test_the_engines_rate_is_that_of_its_calls(tmp_path: Path) -> None:
    assert 5 < engine_rate(fake(20.0), small_clip(tmp_path)) <= 50


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seconds": 0.0}, {"paces": (0.0,)}, {"paces": (1e6,)}])
def test_a_plan_that_measures_nothing_is_refused(wrong) -> None:
    with pytest.raises(UsageError):
        PipelineOptions(lambda many: fake(), **wrong)
