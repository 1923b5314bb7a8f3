"""``streamseg reproduce`` from a folder of images to a report."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from streamseg.cli import main
from streamseg.reproduction.runs import is_finished
from tests.datasets.files import write_labelled
from tests.training.runs import narrow_nets

OPTIONS = [
    "--size",
    "32x32",
    "--epochs",
    "1",
    "--batch",
    "2",
    "--rate",
    "0.0003",
    "--folds",
    "2",
    "--device",
    "cpu",
]
NETS = ["--nets", "unet,improved_unet"]  # SegNet is four times as large, and no other code runs for it


@pytest.fixture(scope="module", autouse=True)
def _narrow_nets():
    with narrow_nets():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("reproduce") / "pictures")


@pytest.fixture(scope="module")
def report(data, tmp_path_factory):
    """A finished report."""
    out = tmp_path_factory.mktemp("report") / "made"
    assert main(["reproduce", str(data), "--out", str(out), *OPTIONS, *NETS]) == 0
    yield out
    shutil.rmtree(out)  # weights are large


def test_a_report_is_written(report):
    assert {path.name for path in (report / "runs").iterdir()} == {
        *("unet-1", "unet-2"),
        *("improved_unet-1", "improved_unet-2"),
    }
    page = (report / "report.html").read_text()
    assert "Complete: all 2 folds" in page
    assert "The paper&#x27;s three nets on pictures" in page
    assert json.loads((report / "result.json").read_text())["missing"] == []


def test_a_finished_report_trains_nothing_and_can_be_exported(data, report, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in (report / "runs").rglob("*")}
    call = ["reproduce", str(data), "--out", str(report), *OPTIONS, *NETS, "--json"]
    assert main([*call, "--export", str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (report / "runs").rglob("*")} == before
    out, err = capsys.readouterr()
    assert "epoch" not in err
    assert "undecided: The improved U-Net trains in about 1/5" in err
    assert json.loads(out)["complete_folds"] == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"reproduce-pictures{end}" for end in (".json", ".md", "-loss.svg", "-dice.svg")
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--epochs", "3"], "epochs 1 (now 3)"),
        (["--folds", "3"], "folds 2 (now 3)"),
        (["--size", "64x32"], "size 32x32 (now 64x32)"),
        (["--rate", "0.1"], "rate 0.0003 (now 0.1)"),
        (["--seed", "5"], "seed 0 (now 5)"),
        (["--nets", "unet"], "nets unet,improved_unet (now unet)"),
        (["--recipe", "best"], "recipe paper (now best)"),
    ],
)
def test_a_changed_setting_is_named(data, report, capsys, changed, message):
    assert main(["reproduce", str(data), "--out", str(report), *OPTIONS, *NETS, *changed]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "large"], "is not HxW"),
        (["--size", "30x32"], "in multiples of"),
        (["--nets", "unet,resnet"], "resnet"),
        (["--folds", "1"], "2 or more"),
        (["--folds", "7"], "6 images into 7"),
        (["--recipe", "mine"], "recipe"),
        (["--device", "tpu"], "device"),
        (["--rates", "1e-4,much"], "rates"),
        (["--rates", "1e-4,1e-3"], "give one of the two"),
        (["--beside", "resnet"], "resnet"),
        (["--precision", "8"], "precision"),
        (["--recipe", "best", "--patience", "3"], "patience 3"),
    ],
)
def test_bad_options_are_one_line(data, tmp_path, capsys, options, message):
    assert main(["reproduce", str(data), "--out", str(tmp_path / "new"), *OPTIONS, *options]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "new").exists()


def test_invalid_data_is_refused(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow  # starts the program twice more
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killed_at_any_moment_it_goes_on(data, report, tmp_path, how):
    out = tmp_path / "killed"
    call = [sys.executable, "-m", "streamseg", "reproduce", str(data), "--out", str(out), *OPTIONS, *NETS]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not is_finished(out, "unet", 0) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate()
    assert process.returncode == (143 if how == signal.SIGTERM else -signal.SIGKILL)
    first = out / "runs/unet-1/result.json"
    before = first.read_bytes()
    again = subprocess.run(call, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert again.returncode == 0, again.stderr
    assert first.read_bytes() == before
    assert json.loads((out / "result.json").read_text())["missing"] == []
    shutil.rmtree(out)
