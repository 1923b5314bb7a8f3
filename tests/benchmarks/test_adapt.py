"""The learning curve of ``adapt``: which points it has, and that it goes on where it was."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import adapt
from streamseg.cli import main as streamseg


def points(**changes: object) -> list[str]:
    options = {
        "starts": ["default", "imagenet", "nothing"],
        "others_at": [100],
        "frames": [10, 100],
        "strategies": ["mixed", "random"],
        "seeds": [0],
        **changes,
    }
    return [point.key for point in adapt._points(argparse.Namespace(**options))]


def test_the_first_start_has_a_curve_and_the_others_a_point() -> None:
    keys = points()
    assert keys[:2] == ["default, mixed, 10 frames, seed 0", "default, random, 10 frames, seed 0"]
    assert [key.split(",")[0] for key in keys] == ["default"] * 4 + ["imagenet"] * 2 + ["nothing"] * 2
    assert len(set(keys)) == 8
    assert points(seeds=[0, 1])[:8] == keys  # a whole curve of the first seed comes before the second


def test_a_number_of_frames_has_its_subjects() -> None:
    people = {frames: adapt._Point("default", "mixed", frames, 0).people for frames in (10, 15, 200, 500)}
    assert people == {10: 2, 15: 4, 200: 12, 500: 12}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["adapt", *map(str, arguments)])
    adapt.main()


def test_weights_never_come_into_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="inside the repository"):
        run(monkeypatch, tmp_path, "--out", adapt.ROOT / "runs" / "adapt")


@pytest.mark.slow
def test_points_are_published_at_once_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, copy = tmp_path / "data", tmp_path / "out", tmp_path / "curve.json"
    streamseg(["phantom", "--out", str(data), "--images", "30", "--subjects", "10"])
    small = ("--frames", 10, "--starts", "default", "--epochs", 1, "--test-each", 1, "--phantoms", 8)
    arguments = (data, "--out", out, "--publish", copy, *small)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *arguments, "--budget", 0)
    assert ended.value.code == adapt.MISSING
    assert set(json.loads(copy.read_text())["rows"]) == {"before"}
    run(monkeypatch, *arguments)
    first = json.loads(copy.read_text())
    assert [row["subjects"] for row in first["rows"].values() if row["frames"]] == [2, 2]
    assert not list(out.rglob("last.pt"))
    capsys.readouterr()
    run(monkeypatch, *arguments, "--budget", 0)
    assert json.loads(copy.read_text()) == first == json.loads((out / adapt.RESULT).read_text())
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="other options"):
        run(monkeypatch, *arguments, "--phantoms", 9)
