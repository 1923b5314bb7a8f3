"""Results of benchmarks that were written before are reported and compared as they were at f5f4443."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.compat.parts import MADE, RESULTS, no_charts, run

__all__ = ["no_charts"]

NAMES = sorted(path.name for path in RESULTS.glob("*-bench-*.json"))
SIZES = "2026-11-23-xeon-2-cores-sizes-416x576.json"
"""Of a run of ``bench nets`` at a larger input."""
REPORT = "2026-11-23-xeon-2-cores-bench"
TAILS = {"nets": 2, "peers": 8}
"""p99 of each round's calls, all the same, which are no longer compared."""
BENCHES = ("nets", "peers", "pipeline", "streams")


def tables(text: str) -> list[str]:
    """The lines of all tables."""
    return [line for line in text.splitlines() if line.startswith("|")]


def test_all_results_are_there() -> None:
    """The tests below would be about nothing otherwise."""
    runs = ("2026-11-22-xeon", "2026-11-23-xeon", "2026-12-01-epyc")
    assert [f"{run}-2-cores-bench-{bench}.json" for run in runs for bench in BENCHES] == NAMES


def test_four_results_give_the_report_that_is_committed(tmp_path: Path) -> None:
    """All tables of it, line by line. Among the rows are those of MONAI's nets.

    Where a table's words change on purpose, write the committed report anew with this command.
    """
    results = [RESULTS / f"{REPORT}-{bench}.json" for bench in BENCHES]
    run("bench", "report", *results, "--out", tmp_path / "report.html")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "MONAI BasicUNet" in text
    assert tables(text) == tables((RESULTS / f"{REPORT}.md").read_text(encoding="utf-8"))
    assert (tmp_path / "report.html").stat().st_size > 100_000, "charts are in it"


@pytest.mark.usefixtures("no_charts")
def test_older_results_give_a_report(tmp_path: Path) -> None:
    run("bench", "report", *(RESULTS / name for name in NAMES[:4]), "--out", tmp_path / "report.html")
    assert len(tables((tmp_path / "report.md").read_text(encoding="utf-8"))) > 150


@pytest.mark.usefixtures("no_charts")
def test_another_size_gives_the_tables_that_it_gave(tmp_path: Path) -> None:
    run("bench", "report", RESULTS / SIZES, "--out", tmp_path / "report.html")
    expected = (MADE / "report-sizes-416x576.md").read_text(encoding="utf-8")
    assert tables((tmp_path / "report.md").read_text(encoding="utf-8")) == tables(expected)


@pytest.mark.parametrize("name", [*NAMES, SIZES])
def test_a_result_is_no_worse_than_itself(name: str) -> None:
    ran = run("bench", "compare", RESULTS / name, RESULTS / name, "--strict", "--json", "-")
    verdicts = Counter(figure["verdict"] for figure in ran.json["figures"])
    assert verdicts.keys() <= {"same", "unclear"}, verdicts
    assert sum(verdicts.values()) >= len(json.loads((RESULTS / name).read_text()))


def without_reasons(text: str) -> list[str]:
    """The tables, a verdict without its reason in words."""
    return [line.partition(": ")[0] for line in tables(text)]


@pytest.mark.parametrize("bench", BENCHES)
def test_two_results_are_compared_as_they_were(bench: str) -> None:
    days = [RESULTS / f"2026-11-{day}-xeon-2-cores-bench-{bench}.json" for day in (22, 23)]
    ran = run("bench", "compare", *days)
    expected = (MADE / f"compare-{bench}.md").read_text(encoding="utf-8")
    assert without_reasons(ran.out) == without_reasons(expected)
    counts, before = (re.findall(r"\d+", text.splitlines()[-1]) for text in (ran.out, expected))
    tails = TAILS.get(bench, 0)
    now = [int(count) + tails * (number in (0, 3)) for number, count in enumerate(counts)]
    assert now == [int(count) for count in before], "figures in all, worse, better, the same, unclear"


def test_rows_of_little_else_than_figures_are_read(tmp_path: Path) -> None:
    """Written by hand, or by another program."""
    row = {"net": "unet", "backend": "openvino", "precision": "int8", "height": 192, "width": 224}
    path = tmp_path / "bare.json"
    path.write_text(json.dumps([row | {"engine_fps": [50.0, 52.0, 51.0], "dice": 0.9}]))
    run("bench", "report", path, "--out", tmp_path / "report.html")
    figures = run("bench", "compare", path, path, "--json", "-").json["figures"]
    assert {figure["key"] for figure in figures} == {"unet openvino int8 192x224 b1"}
