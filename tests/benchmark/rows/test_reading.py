"""Results of ours are read strictly; rows of other programs get what they lack from what they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.nets.variants import InputShape, VariantSpec
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.reading import read_results, read_rows
from streamseg.benchmark.rows.run import Row, RunInfo
from streamseg.core.errors import DataError

ROW = {"net": "unet", "backend": "openvino", "precision": "int8", "height": 192, "width": 224, "batch": 1}


def read(folder: Path, rows: Any) -> list[Row]:
    path = folder / "result.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return read_results(path)


def test_a_row_of_figures_alone(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [{**ROW, "engine_fps": 10.0}])
    assert isinstance(found, NetRow)
    assert (found.bench, found.engine_fps, found.rounds, found.notes) == ("nets", 10.0, {}, [])
    assert found.run == RunInfo(file="result.json")


@pytest.mark.parametrize("folded", [True, False])
def test_its_key_is_the_benchmarks_own(tmp_path: Path, folded: bool) -> None:
    (found,) = read(tmp_path, [{**ROW, "folded": folded}])
    assert found.key == VariantSpec("openvino", "int8", folded).key(InputShape("unet", 192, 224))


def test_what_is_there_stays(tmp_path: Path) -> None:
    row = {
        "bench": "peers",
        "key": "x",
        "run": {"date": "d"},
        "rounds": {"fps": [1.0]},
        "notes": ["n"],
        "fps": 1,
    }
    assert [one.to_json() for one in read(tmp_path, [row])] == [row]


def test_rounds_of_another_form(tmp_path: Path) -> None:
    calls, rates = read(
        tmp_path,
        [
            {**ROW, "durations_ms": [[1, 2, 3], [4, 5, 6], []]},
            {**ROW, "net": "segnet", "engine_fps": [3, 1, 2]},
        ],
    )
    assert calls.rounds == {"engine_ms": [2, 5]}
    assert rates.rounds == {"engine_fps": [3, 1, 2]}
    assert isinstance(rates, NetRow)
    assert rates.engine_fps == 2


def test_figures_of_another_form(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [{**ROW, "latency_ms": 10, "durations_ms": [9, 11], "precision_found": "INT8"}])
    assert isinstance(found, NetRow)
    assert found.latency_ms.p50 == 10
    assert found.durations_ms == [[9, 11]]
    assert found.precision_found == {"int8": 1.0}
    (found,) = read(tmp_path, [{**ROW, "precision_found": "tiny", "notes": "odd"}])
    assert not found.has("precision_found")
    assert found.notes == ["odd"]


def test_rows_of_one_name_are_numbered_by_speed(tmp_path: Path) -> None:
    for order in (1, -1):
        rows = [{**ROW, "engine_fps": rate} for rate in (10, None, 30)][::order]
        found = read(tmp_path, rows)
        assert all(row.numbered for row in found)
        keys = {row.engine_fps: row.key for row in found if isinstance(row, NetRow)}
        name = "unet openvino int8 192x224 b1"
        assert keys == {30: name, 10: f"{name} (2)", None: f"{name} (3)"}


@pytest.mark.parametrize("strange", [None, 3, "text", [1], {"a": None}, True])
def test_parts_of_another_kind(tmp_path: Path, strange: object) -> None:
    row = {**ROW, "run": strange, "rounds": strange, "durations_ms": strange, "engine_fps": strange}
    (found,) = read(tmp_path, [{**row, "notes": strange, "bench": None, "batch": None}])
    assert isinstance(found.run, RunInfo)
    assert isinstance(found.rounds, dict)
    assert isinstance(found.notes, list)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a benchmark result"),
        ("{}", "an object"),
        ("null", "null"),
        ("true", "a truth value"),
        ("[]", "an empty list"),
        ("[3]", "row 0 is not an object"),
        ('[{"precision": "int8"}]', "row 0 does not say what was measured"),
        ("[" * 100_000, "not a benchmark result"),
        ("1" * 5000, "not a benchmark result"),
    ],
)
def test_what_is_not_a_result(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_results(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(DataError, match="not a benchmark result"):
            read_results(path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not a benchmark result"):
        read_results(tmp_path / "bytes")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a benchmark result"),
        ("{}", "it holds an object"),
        ("[]", "it holds an empty list"),
        ("[3]", "row 0 lacks bench"),
        ('[{"bench": "nets", "key": "a"}]', "row 0 lacks run, rounds, notes"),
    ],
)
def test_rows_that_no_benchmark_of_ours_wrote_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--json"):
        read_rows(tmp_path / "none.json")
