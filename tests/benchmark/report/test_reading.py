"""Figures out of rows, and how they read."""

import math

import pytest

from streamseg.benchmark.report.reading import (
    by_net,
    items,
    machine,
    mapping,
    number,
    numbers,
    run_name,
    runs_of,
    shares,
    size,
    spread,
    text,
    variant,
)
from streamseg.reporting.formatting import figure, megabytes, percent
from tests.benchmark.sample_rows import all_rows, nets_rows

ROW = {"a": {"b": 3, "c": [1, None, "x", [2, math.nan]]}, "d": True, "e": "12"}


def test_what_is_there_is_found_and_what_is_not_is_unknown() -> None:
    assert number(ROW, "a", "b") == 3.0
    assert numbers(ROW, "a", "c") == [1.0, 2.0]
    assert text(ROW, "e") == "12"
    assert mapping(ROW, "a")["b"] == 3
    for path in (("d",), ("e",), ("a",), ("a", "b", "c"), ("x", "y")):
        assert number(ROW, *path) is None
        assert items(ROW, *path) == []
    assert number(math.inf) is None
    assert (text(ROW, "x"), mapping(None), items("abc")) == ("", {}, [])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.00042, "4e-04"),
        (0.0123, "0.012"),
        (0.9999, "1.00"),
        (1.234, "1.23"),
        (9.999, "10.0"),
        (74.61, "74.6"),
        (99.97, "100"),
        (1234.5, "1234"),
        (-3.456, "-3.46"),
    ],
)
def test_figures_have_three_digits(value: float | None, words: str) -> None:
    assert figure(value) == words


@pytest.mark.parametrize(
    ("share", "digits", "words"),
    [
        (None, 0, "-"),
        (1.0, 1, "100 %"),
        (0, 1, "0 %"),
        (0.9996, 1, "> 99.9 %"),
        (0.9996, 0, "> 99 %"),
        (0.00001, 1, "< 0.1 %"),
        (0.985, 1, "98.5 %"),
        (1.17, 0, "117 %"),
    ],
)
def test_a_share_that_is_not_all_never_reads_as_all(share: float | None, digits: int, words: str) -> None:
    assert percent(share, digits) == words


def test_spreads_and_sizes_in_words() -> None:
    assert spread({"median": 7.4, "min": 7.2, "max": 7.61}) == "7.40 (7.20 to 7.61)"
    assert spread({"median": 1.0, "min": 1.0, "max": 1.0}) == "1.00"
    assert spread({"median": 1.0}) == "1.00"
    assert spread(None) == "-"
    assert shares({"fp32": 0.04, "int8": 0.96, "odd": None}) == "int8 96 %, fp32 4 %"
    assert megabytes(9_200_000) == "9.20"
    assert size({"height": 192, "width": 224, "batch": 8}) == "192x224, batch 8"


def test_names_of_variants_and_machines() -> None:
    rows = nets_rows()
    assert [variant(row) for row in rows[:3]] == [
        "torch eager FP32, as trained",
        "torch eager FP32, folded",
        "OpenVINO FP32",
    ]
    assert [net for net, _ in by_net(rows)] == [
        "improved U-Net",  # though the variant as trained has random weights
        "U-Net (random weights)",
        "SegNet (random weights)",
    ]
    assert variant({"backend": "eager", "precision": "fp32"}) == "torch eager FP32"
    run = {"machine": {"gpu": "NVIDIA H200", "processor": "AMD EPYC", "cores": 16}}
    assert machine(run) == "NVIDIA H200, AMD EPYC, 16 cores"
    assert machine(None) == "an unnamed processor"
    assert run_name(0) == "run 1"


def test_rows_are_put_together_by_run_and_count_once() -> None:
    rows = all_rows()
    runs = runs_of([*rows, *rows])
    assert [run[0]["bench"] for run in runs] == ["nets", "pipeline", "streams", "peers"]
    assert sum(map(len, runs)) == len(rows)
