"""``streamseg doctor``: reports, and never fails."""

from __future__ import annotations

import importlib
import json
import shutil

import pytest

from streamseg import __version__
from streamseg.cli import main

doctor = importlib.import_module("streamseg.cli.doctor")  # the package's attribute is the command itself
SECTIONS = {"versions", "processor", "memory_gib", "gpu", "backends", "video_devices", "default_engine"}


def test_json_has_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    report = json.loads(out)
    assert set(report) == SECTIONS
    assert report["versions"]["streamseg"] == __version__
    assert report["versions"]["ffmpeg"]
    assert report["processor"]["cores"] >= 1
    assert report["memory_gib"] > 0
    assert report["backends"]["openvino"].startswith("available")
    assert report["default_engine"]["frame_ms_median"] > 0


def test_text_has_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    names = {line.split(":")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
    assert names == SECTIONS


def test_what_breaks_is_reported_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise OSError("no\nluck")

    for section in ("versions", "gpus", "default_engine", "_openvino_devices"):
        monkeypatch.setattr(doctor, section, broken)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "versions:\n  error: OSError: no luck\n" in out
    assert "openvino: unavailable: OSError: no luck" in out
    assert "memory_gib: " in out


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert doctor.backends()["eager"] == "torch is not installed; pip install 'streamseg[train]'"


def test_no_gpu_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor.gpus() == []
