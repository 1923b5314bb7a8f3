"""The pipeline's modes, in turns, and the rows that come of them."""

import json
from pathlib import Path

import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.pipeline.bench import (
    OVERLOAD_KEY,
    Mode,
    PipelineOptions,
    engine_rate,
    measure_pipeline,
    mode_row,
    tables,
    take_turns,
)
from streamseg.benchmark.pipeline.life import Life, Span
from streamseg.benchmark.pipeline.run import EndToEnd
from streamseg.benchmark.rows import COMMON, read_rows, write_rows
from streamseg.errors import EngineError, StreamsegError, UsageError
from streamseg.latency import Percentiles
from streamseg.types import InputSpec, State
from tests.benchmark.small_clip import small_clip, write_clip

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
FIELDS = {
    *COMMON, "mode", "source_fps", "engine", "offered", "processed", "dropped", "fps", "age_ms", "stages_ms",
    "within_budget", "states", "age_over_time", "waterfall",
}  # fmt: skip
MS = 1_000_000


def fake(delay_ms: float = 10.0, **options) -> FakeBackend:
    return FakeBackend(SPEC, delay_ms=delay_ms, **options)


def outcome(*ages_ms: int, fps: float | None = 20.0, notes: tuple[str, ...] = ()) -> EndToEnd:
    """Frames of these ages, one every 50 ms."""
    lives = tuple(
        Life(k, k * 50 * MS, (Span("infer", k * 50 * MS, (k * 50 + age) * MS),), (k * 50 + age) * MS)
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
        assert 0 < len(row["age_over_time"]) <= 400
        assert row["waterfall"]["p50"][0][1] == 0
    assert len(said) == 6
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
    assert live["run"]["regime"]["paces_fps"] == [20.0, overloaded["source_fps"]]


def test_rows_are_strict_json_and_readable_again(measured, tmp_path: Path) -> None:
    rows = measured[0]
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == json.loads(json.dumps(rows, allow_nan=False))


def test_tables_have_a_line_per_mode(measured) -> None:
    rows = measured[0]
    text = "\n".join(tables(rows))
    for row in rows:
        assert text.count(f"| {row['key']} |") == 2
    assert "| mode | decode | wait | preprocess | infer | postprocess | overlay | display | queue |" in text


def test_modes_take_turns_and_the_first_run_does_not_count() -> None:
    runs: list[tuple[str, float]] = []

    def mode(key: str) -> Mode:
        def run(seconds: float) -> EndToEnd:
            runs.append((key, seconds))
            return outcome(10)

        return Mode(key, fake(), None, run)

    found, absent = take_turns([mode("a"), mode("b")], 2, 7.0, lambda line: None)
    assert runs == [("b", 1.0), ("a", 1.0), ("a", 7.0), ("b", 7.0), ("b", 7.0), ("a", 7.0)]
    assert {key: len(outcomes) for key, outcomes in found.items()} == {"a": 2, "b": 2}
    assert absent == {}


def test_a_mode_that_fails_loses_no_other() -> None:
    def breaks(seconds: float) -> EndToEnd:
        raise RuntimeError("the driver\nhas gone")

    modes = [Mode("good", fake(), None, lambda seconds: outcome(10)), Mode("bad", fake(), None, breaks)]
    said: list[str] = []
    found, absent = take_turns(modes, 2, 1.0, said.append)
    assert len(found["good"]) == 2
    assert absent == {"bad": "the driver has gone"}
    assert said[0] == "bad is left out: the driver has gone"
    row = mode_row(modes[0], found["good"], {"absent": absent})
    assert "- bad is absent: the driver has gone" in tables([row])


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
    assert tables([row])[2].startswith("| m | 1 | 0 | 1 | - | - |")


def test_an_engine_that_fails_everywhere_is_an_error(tmp_path: Path) -> None:
    options = PipelineOptions(
        lambda many: fake(fail_at=20), source=str(write_clip(tmp_path / "small.mp4")), paces=(), seconds=0.3
    )
    with pytest.raises(StreamsegError, match="call 20") as raised:
        measure_pipeline(options, lambda line: None)
    assert not isinstance(raised.value, EngineError)


def test_the_engines_rate_is_that_of_its_calls(tmp_path: Path) -> None:
    assert 5 < engine_rate(fake(20.0), small_clip(tmp_path)) <= 50


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seconds": 0.0}, {"paces": (0.0,)}, {"paces": (1e6,)}])
def test_a_plan_that_measures_nothing_is_refused(wrong) -> None:
    with pytest.raises(UsageError):
        PipelineOptions(lambda many: fake(), **wrong)
