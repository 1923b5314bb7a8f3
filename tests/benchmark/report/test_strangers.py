"""The report of rows that others have written: names of any kind, figures of any size, and little else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from streamseg.benchmark.bare import read_results
from streamseg.benchmark.report.reading import runs_of
from streamseg.benchmark.report.write import compose
from streamseg.reporting.document import Block, Bullets, Paragraph, Picture, Table
from tests.benchmark.sample_rows import nets_rows, peers_rows, pipeline_rows

NAMES = ["$\\frac{1}$ $x", "a" * 300, "word " * 60, "<b>&amp;</b>", "^_{%}\\"]


def of_rows(rows: list[dict[str, Any]]) -> list[Block]:
    return compose(runs_of(rows))


@pytest.mark.parametrize("name", NAMES)
def test_names_are_drawn_as_they_are(name: str) -> None:
    """A clip, a back end or a peer may be called anything; a long name must leave room for its chart."""
    nets = [{**row, "net": name, "backend": name} for row in nets_rows()[:2]]
    peers = [{**row, "name": name, "kind": name} for row in peers_rows()[:2]]
    live = [{**row, "key": name} for row in pipeline_rows()[:2]]
    for rows in (nets, peers, live):
        drawn = [block for block in of_rows(rows) if isinstance(block, Picture)]
        assert drawn
        for picture in drawn:
            ElementTree.fromstring(picture.data)


@pytest.mark.parametrize("value", [1e308, 10**400, -1e308, -5.0, 0.0, 1e-308])
def test_figures_that_no_machine_has_never_break_a_chart(value: float) -> None:
    row = {**nets_rows()[0], "engine_fps": value, "end_to_end_fps": value, "limit_share": value}
    assert of_rows([{**row, "durations_ms": [[value, 1.0]], "latency_ms": {"p50": value}}])


def test_rows_that_have_only_figures(tmp_path: Path) -> None:
    """Of another program, or written by hand: what is not known is not said."""
    row = {"net": "unet", "backend": "eager", "precision": "fp32", "engine_fps": 10.0}
    path = tmp_path / "bare.json"
    path.write_text(json.dumps([row, {**row, "backend": "openvino"}]))
    blocks = of_rows(read_results(path))
    tables = {block.caption: block for block in blocks if isinstance(block, Table)}
    assert [cells[0] for cells in tables["U-Net: speed"].rows] == ["torch eager FP32", "OpenVINO FP32"]
    assert tables["This run"].rows == [
        ("file", "bare.json"),
        ("benchmarks", "nets"),
        ("machine", "an unnamed processor"),
    ]
    assert Paragraph("The rows do not say how they were measured.") in blocks
    assert "U-Net: what it computes, and what it takes" not in tables
    said = [item for block in blocks if isinstance(block, Bullets) for item in block.items]
    assert any(item.startswith("U-Net at an unknown size is fastest in") for item in said)


def test_two_files_of_bare_rows_are_two_runs(tmp_path: Path) -> None:
    row = {"net": "unet", "backend": "eager", "engine_fps": 10.0}
    for name, rate in (("a", 10.0), ("b", 8.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps([{**row, "engine_fps": rate}]))
    rows = [row for name in "ab" for row in read_results(tmp_path / f"{name}.json")]
    assert len(runs_of(rows)) == 2
