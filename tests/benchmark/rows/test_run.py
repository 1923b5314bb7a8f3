"""Rows as dataclasses: committed results come back equal, and values of another kind do no harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.provenance import ROOT
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.reading import CLASSES, read_results, read_rows, typed
from streamseg.benchmark.rows.run import (
    Latency,
    Row,
    RunInfo,
    Spread,
    decode,
    number,
    read_result,
    write_result,
    write_rows,
)
from streamseg.core.errors import DataError
from streamseg.core.latency import Percentiles

RESULTS = sorted(
    path
    for path in (ROOT / "benchmarks" / "results").glob("*.json")
    if path.read_text(encoding="utf-8").lstrip().startswith("[") and "recording-size" not in path.name
)


def test_there_are_results_of_every_benchmark() -> None:
    names = " ".join(path.name for path in RESULTS)
    assert all(f"bench-{bench}" in names for bench in CLASSES)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("read", [read_rows, read_results])
def test_committed_results_come_back_equal(path: Path, read, tmp_path: Path) -> None:
    before = json.loads(path.read_text(encoding="utf-8"))
    rows = read(path)
    assert [row.to_json() for row in rows] == before
    assert all(type(row) is CLASSES[row.bench] for row in rows)
    write_rows(tmp_path / "again.json", rows)
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == before


def test_every_key_of_a_new_row_is_written_and_what_is_unknown_is_null() -> None:
    written = NetRow(bench="nets", key="a", run=RunInfo(command="c"), dice=float("nan")).to_json()
    assert list(written)[:5] == ["bench", "key", "run", "rounds", "notes"]
    assert written["dice"] is written["energy_j_per_frame"] is written["latency_ms"] is None
    assert written["run"]["command"] == "c"
    assert not {"given", "numbered", "file"} & {*written, *written["run"]}


def test_a_missing_key_stays_missing_and_is_told_from_null() -> None:
    row = decode(NetRow, {"bench": "nets", "dice": None, "engine": {"from": "built"}})
    assert (row.has("dice"), row.has("engine_fps"), row.dice, row.engine_fps) == (True, False, None, None)
    assert row.engine.from_ == "built"
    assert row.to_json() == {"bench": "nets", "dice": None, "engine": {"from": "built"}}
    assert NetRow().has("engine_fps")


@pytest.mark.parametrize("junk", [None, "x", -1, 0, True, [], [[]], {}, {"p50": None}, [{"fps": "a"}], 1e308])
def test_values_of_another_kind_get_the_default(junk: object) -> None:
    for cls in CLASSES.values():
        row = decode(cls, dict.fromkeys(cls.__dataclass_fields__, junk))
        assert isinstance(row.run, RunInfo)
        assert isinstance(row.rounds, dict)
        assert isinstance(row.notes, list)
        json.dumps(row.to_json(), allow_nan=False)
    assert decode(NetRow, junk).engine_fps is None


def test_values_of_the_right_kind_are_taken() -> None:
    row = decode(
        PipelineRow,
        {
            "rounds": {"fps": [1, None, "2"], "age_ms": "fast"},
            "age_over_time": [[0, 1.5], [1], ["a", 2], [2, 3]],
            "waterfall": {"p50": [["infer", 0, 1.5], ["infer", 0]]},
            "stages_ms": {"infer": {"p50": 1.5}, "wait": 3},
            "offered": 3.0,
        },
    )
    assert row.rounds == {"fps": [1, None, None], "age_ms": []}
    assert row.age_over_time == [(0, 1.5), (2, 3)]
    assert row.waterfall == {"p50": [("infer", 0, 1.5)]}
    assert (row.stages_ms["infer"].p50, row.stages_ms["wait"].p50) == (1.5, None)
    assert (row.offered, row.has_own_pace) == (3, False)


def test_rows_of_benchmarks_that_are_not_known() -> None:
    row = typed({"bench": "weather", "key": "rain", "humidity": 1})
    assert type(row) is Row
    assert (row.key, row.engine_sha256) == ("rain", None)


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), 10**400, 1e308])
def test_what_is_not_a_measured_number(value: object) -> None:
    assert number(value) is None


def test_measured_times_become_rows() -> None:
    assert Latency.of(Percentiles.of([])) == Latency()
    assert Latency.of(Percentiles.of([1_000_000])) == Latency(p50=1.0, p95=1.0, p99=1.0, max=1.0)
    assert Spread.of([3.0, 1.0, 2.00004]) == Spread(median=2.0, min=1.0, max=3.0)


def test_what_a_run_says_of_its_machine() -> None:
    run = RunInfo(machine={"gpu": "NVIDIA H200", "processor": "AMD EPYC", "cores": 16, "commit": "abc"})
    assert (run.hardware, run.gpu, run.commit) == ("NVIDIA H200, AMD EPYC, 16 cores", "NVIDIA H200", "abc")
    assert (RunInfo().hardware, RunInfo().gpu, RunInfo().commit) == ("an unnamed processor", "", "")
    assert (RunInfo(regime={"budget_ms": 80}).budget_ms, RunInfo().budget_ms) == (80, 150.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"quick": True}, "quick run"),
        ({"others_share": 0.23}, "took 23 %"),
        ({"machine": {"commit": "0123abc-dirty"}}, "0123abc-dirty"),
        ({"machine": {"commit": ""}}, "not measured from a commit"),
    ],
)
def test_reasons_against_publishing_a_run(given: dict[str, Any], words: str) -> None:
    quiet = {"machine": {"commit": "0123abc"}, "others_share": 0.02}
    assert RunInfo(**quiet).remarks == []
    (remark,) = RunInfo(**{**quiet, **given}).remarks
    assert words in remark.lower()


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    json_path, text_path = write_result(tmp_path / "new" / "2026-11-22-x-engines", {"rows": [1]}, ["a", "b"])
    assert read_result(json_path) == {"rows": [1]}
    assert text_path.read_text() == "a\nb\n"
    assert read_result(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match="move it away"):
        read_result(path)
