"""FAST as a peer, with a stand-in for pyfast and for the X server: what is asked and what is said of it.

The real one is too large to be installed for tests; docs/log.md has what was measured with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.peers.fast import Fast, command_of_fast, write_frames
from streamseg.benchmark.peers.peer import Peer
from streamseg.benchmark.peers.pipelines import FAST, OURS_PNG, Task, pipelines
from streamseg.core.errors import EngineError
from tests.benchmark.fakes import FRAMES, REGION, SPEC

STAND_IN = """
import glob, sys
import cv2
import cv2
import numpy as np

print("a banner")


class Reporter:
    INFO, NONE = 1, 0

    @staticmethod
    def setGlobalReportMethod(kind, method):
        pass


class SegmentationNetwork:
    @classmethod
    def create(cls, model, **options):
        if "broken" in model:
            print("no such layer", file=sys.stderr)
            sys.exit(3)
        expected = {"meanIntensity": 63.75, "standardDeviationIntensity": 63.75, "threshold": 0.5}
        assert expected.items() <= options.items(), options
        return cls()

    def setPreserveAspectRatio(self, keep):
        assert keep

    def connect(self, files):
        self.files = files


class ImageFileStreamer:
    @staticmethod
    def create(name, useTimestamps, grayscale):
        assert grayscale and not useTimestamps
        return [name.replace("#", str(k)) for k in range(len(glob.glob(name.replace("#", "*"))))]


def DataStream(net):
    for path in net.files:
        level = cv2.imread(path, 0).mean()
        yield np.full((32, 48, 1), level > LIMIT, np.uint8)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Installs a FAST whose masks are full in images above a mean grey level, and empty in others."""

    def install(limit: float) -> None:
        packages, programs = tmp_path / "packages", tmp_path / "programs"
        (packages / "pyfast-4.18.0.dist-info").mkdir(parents=True)
        (packages / "pyfast-4.18.0.dist-info" / "METADATA").write_text("Name: pyfast\nVersion: 4.18.0\n")
        (packages / "fast.py").write_text(STAND_IN.replace("LIMIT", str(limit)))
        programs.mkdir()
        scripts = {
            "xvfb-run": 'shift; exec "$@"',
            "fast-python": f'PYTHONPATH={packages} exec {sys.executable} "$@"',
        }
        for name, line in scripts.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setenv("STREAMSEG_FAST", str(programs / "fast-python"))

    return install


Make = Callable[[str], Peer]


@pytest.fixture
def make(clip: Clip, tmp_path: Path) -> Iterator[Make]:
    """Makes a peer by its name, with an engine that finds a nerve everywhere; at the end it is over."""
    engine = FakeBackend(SPEC, probability=np.ones((32, 48), np.float32))
    with ExitStack() as opened:
        task = Task(
            clip,
            FRAMES - 2,
            lambda many: engine,
            tmp_path,
            exact=lambda: engine,
            onnx=lambda: tmp_path / "model.onnx",
            at_end=lambda call: opened.callback(call) and None,
        )
        yield lambda name: pipelines(task)[name]()


def test_both_read_the_same_frames(make: Make, tmp_path: Path, stand_in: Callable[[float], None]) -> None:
    stand_in(-1)
    ours, theirs = make(OURS_PNG), make(FAST)
    assert ours.call() == theirs.call() == FRAMES - 2
    assert theirs.processor_s() > 0
    for row in (ours.row, theirs.row):
        assert (row.precision, row.frames, row.against) == ("fp32", FRAMES - 2, OURS_PNG)
    assert theirs.row.version == "pyfast 4.18.0"
    assert theirs.row.mask_dice == 1
    assert not theirs.row.ours
    files = sorted((tmp_path / "png").iterdir())
    assert len(files) == FRAMES - 2
    assert cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED).shape == (REGION.height, REGION.width)


def test_one_that_finds_something_else_is_refused(make: Make, stand_in: Callable[[float], None]) -> None:
    stand_in(1000)
    with pytest.raises(EngineError, match="finds something else than ours: masks have Dice 0"):
        make(FAST)


def test_one_that_ends_says_why(tmp_path: Path, stand_in: Callable[[float], None]) -> None:
    stand_in(0)
    with pytest.raises(EngineError, match="FAST ended: no such layer"):
        Fast(tmp_path / "broken.onnx", SPEC, tmp_path)


def test_masks_come_in_the_order_of_the_images(tmp_path: Path, stand_in: Callable[[float], None]) -> None:
    stand_in(100)
    fast = Fast(tmp_path / "model.onnx", SPEC, tmp_path)
    images = [np.full((8, 8), level, np.uint8) for level in [0, 255] * 6]
    try:
        assert fast.masks(images, tmp_path / "frames").mean(axis=(1, 2)).tolist() == [0, 1] * 6
    finally:
        fast.close()
    assert write_frames(images, tmp_path / "frames").endswith("frame_#.png")


def test_what_is_missing_is_named(
    tmp_path: Path, stand_in: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(0)
    assert command_of_fast()[:2] == ["xvfb-run", "-a"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"needs an X server; install xvfb-run"):
        command_of_fast()
    monkeypatch.setenv("STREAMSEG_FAST", str(tmp_path / "nothing"))
    with pytest.raises(EngineError, match="which is no program"):
        command_of_fast()
    monkeypatch.delenv("STREAMSEG_FAST")
    with pytest.raises(EngineError, match=r"install pyfast==4.18 .* set STREAMSEG_FAST"):
        command_of_fast()
