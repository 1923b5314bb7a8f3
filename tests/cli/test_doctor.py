"""``streamseg doctor``: reports, and never fails."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamseg import __version__
from streamseg.cli import main
from streamseg.cli.doctor import device_lines
from streamseg.core import hardware as machine
from tests.capture.v4l2.device import Mode, emulated_device

doctor = importlib.import_module("streamseg.cli.doctor")  # the package's attribute is the command itself
SECTIONS = {
    "versions",
    "processor",
    "memory_gib",
    "memory_usable_gib",
    "gpu",
    "backends",
    "plugins",
    "engine_store",
    "video_devices",
    "default_engine",
}


def test_json_has_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--device", "/dev/null"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    report = json.loads(out)
    assert set(report) == SECTIONS
    assert report["versions"]["streamseg"] == __version__
    assert report["versions"]["ffmpeg"]
    assert report["processor"]["cores"] >= 1
    assert 0 < report["memory_usable_gib"] <= report["memory_gib"]
    assert report["backends"]["openvino"].startswith("available")
    assert report["engine_store"]["engines"] == 0
    assert report["engine_store"]["taken_by_default"] == report["default_engine"]["name"]
    assert report["default_engine"]["frame_ms_median"] > 0
    assert report["video_devices"][-1] == {
        "path": "/dev/null",
        "name": None,
        "driver": None,
        "mode": None,
        "problem": "/dev/null is not a video device; give one such as /dev/video0",
        "formats": [],
    }


def test_text_has_every_section(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "SELF_TEST_FRAMES", 1)
    assert main(["doctor"]) == 0
    names = {line.split(":")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
    assert names == SECTIONS


def test_failures_are_reported_and_the_rest_continues(
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
    found = doctor.backends()
    assert found["eager"] == "torch is not installed; pip install 'streamseg[train]'"
    assert found["onnx"] == "onnxruntime is not installed; pip install 'streamseg[export]'"
    assert found["tensorrt"] == "tensorrt is not installed; pip install 'streamseg[tensorrt]'"


def test_tensorrt_without_a_gpu_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: name == "tensorrt_rtx")
    monkeypatch.setattr(machine, "this_machine", lambda: machine.Machine("a processor", ()))
    assert "no NVIDIA GPU" in doctor.backends()["tensorrt"]
    found = machine.Machine("a processor", (), "a GPU", "9.0", "580.1")
    monkeypatch.setattr(machine, "this_machine", lambda: found)
    assert doctor.backends()["tensorrt"] == "available (tensorrt_rtx, compute capability 9.0)"


def test_video_devices_are_listed_with_their_formats(tmp_path: Path) -> None:
    modes = [Mode("YUYV"), Mode("YUYV", rate=Fraction(60000, 1001)), Mode("MJPG", 640, 480)]
    image = np.zeros((8, 8), np.uint8)
    with emulated_device(tmp_path, [image], modes=modes) as device:
        # A format that cannot be read is listed too.
        lines = device.control.read_text() + "format BA81 32 32 25 1 1 none\n"
        device.control.write_text(lines)
        code = "import json; from streamseg.cli.doctor import *; found = video_devices([{!r}, {!r}]); "
        code += "print(json.dumps([found[-2:], list(device_lines(found[-2:]))]))"
        answer = subprocess.run(
            [sys.executable, "-c", code.format(device.path, "/dev/no-such-video")],
            env=device.env,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    (found, absent), text = json.loads(answer.stdout)
    assert (found["path"], found["name"], found["driver"]) == (device.path, "Emulated Grabber", "emulated")
    assert (found["mode"], found["problem"]) == ("mjpeg 640x480 at 30", None)
    assert [(item["format"], item["code"]) for item in found["formats"]] == [
        ("yuyv", "YUYV"),
        ("mjpeg", "MJPG"),
        (None, "BA81"),
    ]
    assert found["formats"][0]["sizes"] == [
        {"width": 160, "height": 120, "up_to": None, "rates": [59.94, 30.0], "continuous_rates": False}
    ]
    assert (absent["path"], absent["mode"], absent["formats"]) == ("/dev/no-such-video", None, [])
    assert "no video device" in absent["problem"]
    assert text[:4] == [
        f"  {device.path}: Emulated Grabber (emulated), would be read as mjpeg 640x480 at 30",
        "    yuyv: 160x120 at 59.94, 30",
        "    mjpeg: 640x480 at 30",
        "    BA81 (cannot be read): 32x32 at 25",
    ]
    assert text[4].startswith("  /dev/no-such-video: no video device")


def test_sizes_and_rates_that_are_ranges() -> None:
    size = {"width": 48, "height": 32, "up_to": [1920, 1200], "rates": [60.0, 1.0], "continuous_rates": True}
    formats = [
        {"format": "yuyv", "code": "YUYV", "sizes": [size]},
        {"format": "grey", "code": "GREY", "sizes": []},
    ]
    device = {"path": "/dev/x", "name": "A", "driver": "a", "mode": None, "problem": "p", "formats": formats}
    assert list(device_lines([device])) == [
        "  /dev/x: A (a), p",
        "    yuyv: 48x32 to 1920x1200 at 60 to 1",
        "    grey: any size",
    ]


def test_no_gpu_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor.gpus() == []
