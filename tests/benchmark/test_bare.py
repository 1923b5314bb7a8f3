"""Rows that others wrote: what they lack is made up from what they have, and what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.bare import read_results
from streamseg.benchmark.nets.variants import InputShape, variant_key
from streamseg.benchmark.rows import COMMON
from streamseg.core.errors import DataError

ROW = {"net": "unet", "backend": "openvino", "precision": "int8", "height": 192, "width": 224, "batch": 1}


def read(folder: Path, rows: Any) -> list[dict[str, Any]]:
    path = folder / "result.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return read_results(path)


def test_a_row_of_figures_alone(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [{**ROW, "engine_fps": 10.0}])
    assert all(name in found for name in COMMON)
    assert (found["bench"], found["rounds"], found["notes"]) == ("nets", {}, [])
    assert found["run"] == {"file": "result.json"}


@pytest.mark.parametrize("folded", [True, False])
def test_its_key_is_the_benchmarks_own(tmp_path: Path, folded: bool) -> None:
    (found,) = read(tmp_path, [{**ROW, "folded": folded}])
    assert found["key"] == variant_key(InputShape("unet", 192, 224), "openvino", "int8", folded=folded)


def test_what_is_there_stays(tmp_path: Path) -> None:
    row = {
        "bench": "peers",
        "key": "x",
        "run": {"date": "d"},
        "rounds": {"fps": [1.0]},
        "notes": ["n"],
        "fps": 1,
    }
    assert read(tmp_path, [row]) == [row]


def test_rounds_of_another_form(tmp_path: Path) -> None:
    calls, rates = read(
        tmp_path,
        [
            {**ROW, "durations_ms": [[1, 2, 3], [4, 5, 6], []]},
            {**ROW, "net": "segnet", "engine_fps": [3, 1, 2]},
        ],
    )
    assert calls["rounds"] == {"engine_ms": [2, 5]}
    assert rates["rounds"] == {"engine_fps": [3, 1, 2]}
    assert rates["engine_fps"] == 2


def test_rows_of_one_name_are_numbered_by_speed(tmp_path: Path) -> None:
    for order in (1, -1):
        rows = [{**ROW, "engine_fps": rate} for rate in (10, None, 30)][::order]
        keys = {row["engine_fps"]: row["key"] for row in read(tmp_path, rows)}
        name = "unet openvino int8 192x224 b1"
        assert keys == {30: name, 10: f"{name} (2)", None: f"{name} (3)"}


@pytest.mark.parametrize("strange", [None, 3, "text", [1], {"a": None}, True])
def test_parts_of_another_kind(tmp_path: Path, strange: object) -> None:
    row = {**ROW, "run": strange, "rounds": strange, "durations_ms": strange, "engine_fps": strange}
    (found,) = read(tmp_path, [{**row, "notes": strange, "bench": None, "batch": None}])
    assert isinstance(found["run"], dict)
    assert isinstance(found["rounds"], dict)
    assert isinstance(found["notes"], list)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no result"),
        ("{}", "an object"),
        ("null", "null"),
        ("true", "a truth value"),
        ("[]", "an empty list"),
        ("[3]", "row 0 is no object"),
        ('[{"precision": "int8"}]', "row 0 does not say what was measured"),
        ("[" * 100_000, "no result"),
        ("1" * 5000, "no result"),
    ],
)
def test_what_is_no_result(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(DataError, match="no result"):
            read_results(path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="no result"):
        read_results(tmp_path / "bytes")
