"""``streamseg train`` from a folder of images to weights that load."""

import json
import os
import signal
import time

import pytest
from PIL import Image

from streamseg.cli import main
from streamseg.datasets import RunSplit, frame_hash, hold_back, open_dataset
from streamseg.datasets.kaggle_writer import write_kaggle
from streamseg.engines.checkpoint import read_checkpoint, write_checkpoint
from streamseg.training import trainer
from streamseg.training.validate import validation_dice
from tests.datasets.files import write_labelled
from tests.nets.random_nets import random_checkpoint
from tests.training.runs import narrow_nets


@pytest.fixture(scope="module", autouse=True)
def _narrow_nets():
    with narrow_nets():
        yield


@pytest.fixture
def data(tmp_path):
    return write_labelled(tmp_path / "data")


SMALL = ["--size", "32x48", "--epochs", "1", "--batch", "2", "--validation", "0.34", "--device", "cpu"]


def test_trains_resumes_and_refuses_to_start_over(data, tmp_path, capsys):
    run = tmp_path / "run"
    call = ["train", str(data), "--out", str(run), *SMALL, "--phantom", "2", "--phantom-batch", "1"]
    assert main(call) == 0
    output = capsys.readouterr()
    assert output.out.strip() == str(run / "weights.safetensors")
    assert "epoch 1/1" in output.err
    assert "4 images to train on, 2 held back" in output.err
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert read_checkpoint(run / "weights.safetensors").spec.height == 32
    stored = RunSplit.read(run / "weights.safetensors")
    frames = [frame_hash(sample.image) for sample in open_dataset(data)]
    assert stored == RunSplit(frozenset(frames[:4]), frozenset(frames[4:]))
    # whatever share is asked for, what the run has seen stays out
    assert hold_back(open_dataset(data), 0.7, runs=[stored]).validation == (4, 5)

    assert main(call) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
    assert main([*call, "--resume", "--seed", "1"]) == 2
    assert "another seed 0 (now 1)" in capsys.readouterr().err


def test_a_step_is_made_of_several_data_sets_and_taught_by_teachers(data, tmp_path, capsys):
    absent = write_labelled(tmp_path / "absent")
    for mask in (absent / "masks").iterdir():
        Image.new("L", (60, 40)).save(mask)
    teacher = random_checkpoint("unet")
    path = tmp_path / "teacher.safetensors"
    sha256 = write_checkpoint(path, teacher.weights, net="unet", folded=True, trained=True, spec=teacher.spec)
    run = tmp_path / "run"
    call = ["train", str(data), "--out", str(run), *SMALL, "--net", "lite_unet", "--init", "random"]
    call += ["--size", "32x64", "--absent", str(absent), "--phantom", "2", "--teacher", str(path)]
    assert main(call) == 0
    assert "the teachers look at" in capsys.readouterr().err
    config = json.loads((run / "run.json").read_text())["config"]
    assert config["taught_from"] == "original"
    assert (config["batch"], config["absent_batch"], config["phantom_batch"]) == (2, 3, 2)
    assert (config["teachers"], config["soft"], config["restyle"]) == (sha256, 0.7, 0.7)
    checkpoint = read_checkpoint(run / "weights.safetensors")
    assert (checkpoint.net, checkpoint.spec.structures) == ("lite_unet", ("nerve", "vessel"))
    capsys.readouterr()
    assert main([*call, "--init", "imagenet", "--resume"]) == 0  # finished: nothing is begun
    assert main([*call[:-2], "--resume"]) == 2
    assert "the same --teacher files" in capsys.readouterr().err
    each = [*call[:3], str(tmp_path / "each"), *call[4:], "--taught-from", "changed"]
    assert main(each) == 0
    assert "the teachers look at" not in capsys.readouterr().err
    assert main([*each, "--taught-from", "nothing", "--resume"]) == 2
    assert "choose one of changed, original" in capsys.readouterr().err


def test_a_run_on_all_images_is_not_validated(data, tmp_path, capsys):
    call = ["train", str(data), "--out", str(tmp_path / "run"), *SMALL, "--validation", "0", "--json"]
    assert main(call) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["dice"] is None
    assert "6 images to train on, 0 held back" in said.err
    assert "Dice" not in said.err


def test_a_resumed_run_has_its_own_settings(data, tmp_path, capsys):
    run = tmp_path / "run"
    call = ["train", str(data), "--out", str(run), "--validation", "0.34", "--device", "cpu"]
    assert main([*call, *SMALL, "--recipe", "paper", "--net", "unet", "--precision", "32-true"]) == 0
    before = (run / "run.json").read_bytes()
    assert main([*call, "--resume"]) == 0
    assert (run / "run.json").read_bytes() == before


def test_the_paper_s_recipe_on_the_competition_s_layout_as_json(tmp_path, capsys):
    write_kaggle(tmp_path / "kaggle", images=6, subjects=3, seed=1)
    call = ["train", str(tmp_path / "kaggle"), "--out", str(tmp_path / "run"), *SMALL, "--net", "unet"]
    assert main([*call, "--recipe", "paper", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["epoch"] == 1
    assert 0 <= result["dice"] <= 1
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert (run["config"]["recipe"], run["config"]["loss"], run["config"]["strength"]) == ("paper", "dice", 0)


def test_phantoms_serve_where_there_is_no_data(tmp_path, capsys):
    assert main(["train", "phantom:6", "--out", str(tmp_path / "run"), *SMALL]) == 0
    assert read_checkpoint(capsys.readouterr().out.strip()).trained


def test_stopping_saves_and_says_how_to_go_on(data, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    validated = []

    def stop_in_the_second_epoch(*arguments):
        validated.append(1)
        if len(validated) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return validation_dice(*arguments)

    monkeypatch.setattr(trainer, "validation_dice", stop_in_the_second_epoch)
    assert main(["train", str(data), "--out", str(run), *SMALL, "--epochs", "100000"]) == 130
    said = capsys.readouterr().err
    assert "epoch 2/" in said
    assert f"stopped by Ctrl-C in epoch 3; resume with --resume --out {run}" in said
    assert json.loads((run / "run.json").read_text())["epoch"] >= 2
    assert (run / "weights.safetensors").exists()
    assert time.time() - (run / "last.pt").stat().st_mtime < 600


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--size", "large"], "is not HxW"),
        (["--size", "33x48"], "multiples of 16"),
        (["--net", "resnet"], "no net is called"),
        (["--recipe", "good"], "unknown recipe"),
        (["--validation", "0.001"], "empty"),
        (["--device", "tpu"], "no device is called"),
        (["--precision", "8"], "precision"),
        (["--start", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--init", "imagenet"], "no ImageNet weights for improved_unet"),
        (["--teacher", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--absent", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_one_line(data, tmp_path, capsys, option, message):
    assert main(["train", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", *option]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_bad_mask_is_named(data, tmp_path, capsys):
    Image.new("L", (10, 10)).save(data / "masks/3.png")
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *SMALL]) == 1
    assert "masks/3.png is 10x10, its image 60x40" in capsys.readouterr().err
