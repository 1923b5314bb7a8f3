"""The command ``streamseg bench report``."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamseg.benchmark.rows.run import write_rows
from streamseg.cli import app
from streamseg.core.errors import DataError, UsageError
from tests.benchmark.sample_rows import peers_rows, streams_rows


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, ["bench", "report", *map(str, arguments)])


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "streams.json", tmp_path / "peers.json"]
    for path, rows in zip(paths, (streams_rows(), peers_rows()), strict=True):
        write_rows(path, rows)
    return paths


def test_results_become_one_report(run, results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    found = run(*results, "--out", out)
    assert found.exit_code == 0, found.output
    assert f"wrote {out} and {out.with_suffix('.md')}" in found.stderr
    words = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "Streams side by side" in words
    assert "MONAI BasicUNet" in words
    assert "<svg" not in out.read_text(encoding="utf-8")  # but as data
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "both.html", "both.md", "peers.json", "streams.json",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", json.dumps([{"bench": "nets"}])])
def test_a_file_that_is_no_result_is_one_line(run, results: list[Path], tmp_path: Path, text: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    error = run(*results, bad, "--out", tmp_path / "out.html").exception
    assert isinstance(error, DataError)
    assert "bad.json" in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("out", "reason"), [("out.pdf", "html"), ("nowhere/out.html", "does not exist"), (".", "folder")]
)
def test_an_output_that_cannot_be_is_refused_first(run, tmp_path: Path, out: str, reason: str) -> None:
    error = run(tmp_path / "missing.json", "--out", tmp_path / out).exception
    assert isinstance(error, UsageError)
    assert reason in str(error)


def test_results_and_output_must_be_given(run, tmp_path: Path) -> None:
    assert run().exit_code == 2
    assert run(tmp_path / "a.json").exit_code == 2
