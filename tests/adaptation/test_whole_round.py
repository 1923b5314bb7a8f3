"""A whole round as a new user would do it: recordings, labels in every format, adaptation, live, undo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.adaptation import round as adaptation
from streamseg.adaptation.history import History
from streamseg.annotation.formats import FORMATS, format_of
from streamseg.annotation.frames import Draft, Selection
from streamseg.backends.loading import WEIGHTS
from streamseg.capture.phantom import PhantomSource
from streamseg.cli import main
from streamseg.core.types import InputSpec
from streamseg.datasets import open_dataset
from streamseg.engines.checkpoint import read_checkpoint, write_checkpoint
from streamseg.live.config import load_profile

SOURCES = [f"phantom:?seed={seed}&frames=24&fps=2&size=96x64&nerve=always" for seed in range(5)]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The shipped improved U-Net with a head that outlines far too much, so that any training is better."""
    shipped = read_checkpoint(WEIGHTS / "improved_unet.safetensors")
    weights = {**shipped.weights, "head.bias": shipped.weights["head.bias"] + 16}
    path = tmp_path / "base.safetensors"
    spec = InputSpec(64, 96, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
    write_checkpoint(
        path,
        weights,
        net=shipped.net,
        folded=True,
        trained=True,
        spec=spec,
        licence="CC0, nobody",
        restyled=True,
    )
    return path


def label(selection: Selection, name: str) -> None:
    """Write the exact masks of a selection's frames as a labelling program of this format would."""
    truths = {}
    for source in SOURCES:
        with PhantomSource.from_uri(source) as phantom:
            for frame in phantom:
                truths[frame.image.tobytes()] = phantom.truth(frame.index)
    drafts = []
    for frame in selection.frames:
        image = open_image(selection.image(frame))
        drafts.append(Draft(frame, {"nerve": truths[image.tobytes()]}))
    format_of(name).write(selection.folder, drafts)
    if name == "labelstudio":
        path = selection.folder / "tasks.json"
        tasks = [{**task, "annotations": task["predictions"]} for task in json.loads(path.read_text())]
        path.write_text(json.dumps(tasks))


def open_image(path: Path) -> np.ndarray:
    import cv2

    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)


def kill_while_training(arguments: list[str], run: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "streamseg", *arguments], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 900
    while not (run / "run.json").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(1500)  # two and a half minutes on a quiet machine
def test_a_whole_round(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["select", *SOURCES, "--frames", "50", "--engine", str(base), "--format", "masks"]
    assert main([*chosen, "--out", "to-label"]) == 0

    for name in FORMATS:
        folder = Path(shutil.copytree("to-label", f"to-label-{name}"))
        label(Selection.read(folder), name)
        marks = ["--format", name, "--selection", str(folder), "--all-looked-at"]
        assert (
            main(["import", str(folder), "--out", f"data-{name}", *marks, "--licence", "CC0, phantom"]) == 0
        )
    first = open_dataset("data-labelme")
    assert len(first) >= 20
    for name in FORMATS:
        for one, other in zip(first, open_dataset(f"data-{name}"), strict=True):
            assert one.name == other.name
            assert one.subject == other.subject
            np.testing.assert_array_equal(one.nerve, other.nerve)
    assert main(["check", "data-cvat"]) == 0

    arguments = ["adapt", "data-cvat", "--name", "lab", "--from", str(base), "--minutes", "30"]
    kill_while_training(arguments, tmp_path / "adapted/lab/round-001/run")
    fit, restyled = adaptation.fit_output_calibration, []

    def noted(*given: Any, **settings: Any) -> Any:
        restyled.append(settings["restyled"])
        return fit(*given, **settings)

    monkeypatch.setattr(adaptation, "fit_output_calibration", noted)
    capsys.readouterr()
    assert main([*arguments, "--profile", "lab", "--json"]) == 0
    said = capsys.readouterr()
    assert "going on with round 1 of lab" in said.err
    values = json.loads(said.out)
    (nerve,) = values["figures"]["structures"]
    assert nerve["after"] > nerve["before"]
    assert values["accepted"]
    weights = read_checkpoint(values["weights"])
    assert weights.spec.judgement is not None
    assert weights.licence == "lab: CC0, phantom; CC0, nobody"
    assert weights.restyled
    assert restyled == [True]
    report = Path(values["report"]).read_text()
    assert report.count("data:image/png") >= 3
    assert "Learning curve" in report

    assert load_profile("lab").engine == values["engine"]
    assert (
        main(["live", SOURCES[0], "--profile", "lab", "--display", "none", "--seconds", "3", "--json"]) == 0
    )
    assert values["engine"] in capsys.readouterr().out
    assert main(["replay", SOURCES[1], "--engine", values["engine"]]) == 0

    # The same request again finds its round, and asks for no time.
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["number"] == 1
    assert main(["adapt", "--name", "lab", "--undo"]) == 0
    assert load_profile("lab").engine is None
    assert History.read(Path("adapted/lab")).in_use is None
    assert main(["adapt", "--name", "lab", "--undo"]) == 2
