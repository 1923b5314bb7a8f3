"""``streamseg bench compare`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamseg.benchmark.rows.run import write_rows
from streamseg.cli import main
from tests.benchmark.compared import row, run, slower


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a result, one that is slower, and one of another machine."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "a.json", [row(dice=0.9)])
    write_rows(tmp_path / "slow.json", [row(ms=slower(1.3), dice=0.9)])
    write_rows(tmp_path / "other.json", [row(of=run(machine={"cores": 8}), dice=0.9)])
    return tmp_path


def compare(*arguments: str) -> int:
    return main(["bench", "compare", *arguments])


def test_two_results(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("a.json", "slow.json") == 0
    out = capsys.readouterr().out
    assert "| nets net openvino int8 | engine_ms | 10.0 | 13.0 | +30.0 % |" in out
    assert out.splitlines()[-1] == "2 figures compared: 1 worse, 0 better, 1 the same, 0 unclear"


def test_strict_fails_where_something_is_worse(results: Path) -> None:
    assert compare("a.json", "slow.json", "--strict") == 1
    assert compare("slow.json", "a.json", "--strict") == 0
    assert compare("a.json", "a.json", "--strict") == 0


def test_rows_that_have_only_figures(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written by hand, or by another program."""
    bare = {
        "net": "unet",
        "backend": "openvino",
        "precision": "int8",
        "height": 192,
        "width": 224,
        "batch": 1,
    }
    for name, fps, dice in (("x.json", 50.0, 0.9), ("y.json", 40.0, 0.8)):
        figures = {"engine_fps": fps, "latency_ms": {"p50": 1e3 / fps}, "dice": dice}
        found = {"precision_found": "int8" if fps == 50 else "fp32"}
        (results / name).write_text(json.dumps([{**bare, **figures, **found}]))
    assert compare("x.json", "y.json", "--strict") == 1
    lines = capsys.readouterr().out.splitlines()
    name = "nets unet openvino int8 192x224 b1"
    assert f"| {name} | engine_fps | 50.0 | 40.0 | -20.0 % | - | - | slower |" in lines
    assert f"| {name} | latency_ms p50 | 20.0 | 25.0 | +25.0 % | - | - | slower |" in lines
    assert f"| {name} | dice | 0.900 | 0.800 | -11.1 % | - | - | worse |" in lines
    assert any(f"| {name} | computes in int8 |" in line and line.endswith("| worse |") for line in lines)
    assert compare("y.json", "x.json", "--strict") == 0


def test_few_rounds_tell_of_large_changes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a quick run on a slow machine."""
    for name, ms, share in (("x", [10.0], 0.0), ("y", [15.0], 0.0), ("busy", [15.0], 0.4)):
        write_rows(results / f"{name}.json", [row(ms=ms, of=run(others_share=share))])
    assert compare("x.json", "y.json", "--strict") == 1
    assert compare("x.json", "busy.json", "--strict") == 0
    assert "unclear: fewer than 3 rounds, so that it counts from 100 % on" in capsys.readouterr().out


def test_strict_fails_where_a_row_is_gone(results: Path) -> None:
    write_rows(results / "two.json", [row(dice=0.9), row("other")])
    assert compare("two.json", "a.json") == 0
    assert compare("two.json", "a.json", "--strict") == 1
    assert compare("a.json", "two.json", "--strict") == 0


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "The exit code is 0 after comparing" in text
    assert "1 with --strict if anything is slower, worse or no longer measured; 2 for files" in text


def test_another_machine_is_warned_of(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("a.json", "other.json") == 0
    assert "warning: the machine differs: cores 2 -> 8" in capsys.readouterr().out


def test_the_comparison_as_json(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("a.json", "slow.json", "--json", "found.json") == 0
    found = json.loads((results / "found.json").read_text())
    assert found["counts"] == {"worse": 1, "better": 0, "same": 1, "unclear": 0}
    capsys.readouterr()
    assert compare("a.json", "slow.json", "--strict", "--json", "-") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == found
    assert "2 figures compared" in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["a.json"], 2, "received 1 files"),
        (["a.json", "a.json", "a.json"], 2, "received 3 files"),
        (["a.json", "none.json"], 2, "none.json is not a benchmark result"),
        (["a.json", "bad.json"], 2, "bad.json is not a benchmark result"),
        (["a.json", "twice.json"], 2, "two rows"),
        (["a.json", "a.json", "--json", "nowhere/found.json"], 2, "does not exist"),
    ],
)
def test_wrong_calls(
    results: Path,
    arguments: list[str],
    code: int,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (results / "bad.json").write_text("{")
    write_rows(results / "twice.json", [row(), row()])
    assert compare(*arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert reason in shown.err
    assert shown.err.count("\n") == 1
