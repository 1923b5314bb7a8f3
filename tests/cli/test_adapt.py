"""``streamseg adapt``: wrong requests, and undo, without training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamseg.cli import main
from streamseg.cli.adapt import _use
from streamseg.live.config import LiveConfig, load_profile, save_profile
from tests.adaptation.test_history import make_history
from tests.datasets.files import write_labelled


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data"),
        (["data", "--undo"], "--undo takes no data"),
        (["data", "--name", "../mine"], "invalid name"),
        (["data", "--profile", "../mine"], "invalid profile name"),
        (["--undo"], "nothing to undo"),
        (["no-data"], "no data set folder at no-data"),
        (["data", "--from", "nothing"], "is neither a net"),
    ],
)
def test_wrong_requests_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapt", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_profile_uses_a_round_and_goes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_profile("theatre", LiveConfig(source="v4l2:/dev/video0", engine="own", mm_per_pixel=0.1))
    history = make_history(tmp_path / "adapted" / "scanner", True)
    history.write()
    done = _use(history, history.rounds[0], "theatre")
    assert (done.profile, done.engine_before) == ("theatre", "own")
    assert load_profile("theatre") == LiveConfig(
        source="v4l2:/dev/video0", engine="engine-1", mm_per_pixel=0.1
    )
    assert main(["adapt", "--undo", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"undone": 1, "in_use": None, "engine": None}
    assert "profile theatre uses own again" in said.err
    assert load_profile("theatre").engine == "own"


def test_an_undo_leaves_a_profile_that_was_changed_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = make_history(tmp_path / "adapted" / "scanner", True, True)
    history.write()
    _use(history, history.rounds[1], "theatre")
    save_profile("theatre", replace(load_profile("theatre"), engine="mine"))
    assert main(["adapt", "--undo"]) == 0
    said = capsys.readouterr()
    assert "it stays as it is" in said.err
    assert said.out == "engine-1\n"
    assert load_profile("theatre").engine == "mine"


def test_too_few_frames_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labelled(tmp_path / "data")
    assert main(["adapt", "data"]) == 1
    assert "6 labelled frames are too few" in capsys.readouterr().err
