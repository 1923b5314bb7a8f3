"""Training, measuring, stopping and going on, with real nets on very small images."""

import json
import shutil
from functools import partial

import cv2
import numpy as np
import pytest

from streamseg.core.errors import DataError
from streamseg.datasets.kaggle_writer import write_kaggle
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.reproduction.data import gather
from streamseg.reproduction.plan import ReplicationPlan, run_folder
from streamseg.reproduction.report import write_report
from streamseg.reproduction.results import RESULT, read_run
from streamseg.reproduction.runs import Replication, ReplicationCallbacks, example_row, is_finished
from streamseg.training.config import recipe
from streamseg.training.devices import make_fabric
from tests.datasets.files import write_labelled
from tests.training.runs import narrow_nets

PLAN = ReplicationPlan(recipe("paper", height=32, width=32, epochs=2, batch=2), 2, ("unet",))


@pytest.fixture(scope="module", autouse=True)
def _narrow_nets():
    with narrow_nets():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return gather(str(write_labelled(root / "data")), PLAN, root, say=print, advance=lambda: None)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """Both folds of one net, done in one go."""
    out = tmp_path_factory.mktemp("report")
    calls = []
    callbacks = ReplicationCallbacks(
        on_epoch=lambda what, epochs, line: calls.append((what, epochs)), on_run=lambda: calls.append("run")
    )
    assert replicate(data, out, callbacks)
    first, second = (f"run {fold} of 2: U-Net, fold {fold} of 2" for fold in (1, 2))
    assert calls == [*[(first, 2)] * 2, "run", *[(second, 2)] * 2, "run"]
    yield out
    shutil.rmtree(out)  # weights are large


def replicate(data, out, callbacks):
    return Replication(PLAN, data, out, partial(make_fabric, "cpu"), callbacks).run_all()


def test_what_a_run_stores(data, finished):
    run = read_run(run_folder(finished, "unet", 0))
    assert (run.net, run.fold, run.parameters, run.train_images, run.validation_images) == (
        *("unet", 0, 7_848_129),
        *(3, 3),
    )
    assert [image["name"] for image in run.images] == ["0", "1", "2"]
    assert [image["nerve"] for image in run.images] == [False, True, True]
    assert len(run.losses) == 2  # 3 images in batches of 2 are one step an epoch
    assert [epoch["epoch"] for epoch in run.epochs] == [1, 2]
    assert run.seconds > 0
    assert run.machine["device"] == "cpu"
    assert not (run_folder(finished, "unet", 0) / "last.pt").exists()


def test_the_example_is_chosen_by_its_mask_alone(data, finished):
    row = example_row(data, 0)
    areas = data.cache.labels[:3, 0].sum((1, 2)).tolist()
    assert areas[row] == max(areas)  # of two images with nerve the larger one is the upper median
    assert read_run(run_folder(finished, "unet", 0)).example == str(row)
    mask = cv2.imread(str(finished / "examples/1-mask.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(mask > 0, data.samples[row].nerve)
    found = cv2.imread(str(run_folder(finished, "unet", 0) / "example.png"), cv2.IMREAD_GRAYSCALE)
    assert found.shape == mask.shape
    assert set(np.unique(found)) <= {0, 255}


def test_trials_then_runs_until_flat_then_what_is_beside(tmp_path):
    """Stopped in every trial and every run, it ends as one that was not."""
    write_kaggle(tmp_path / "data", images=12, subjects=6, seed=1)
    config = recipe("paper", height=32, width=32, epochs=4, batch=2, precision="bf16-mixed", patience=1)
    plan = ReplicationPlan(
        config, 3, ("unet",), rates=(1e-4, 1e-3), trial_epochs=2, beside=("improved_unet",), beside_epochs=1
    )
    read = gather(str(tmp_path / "data"), plan, tmp_path, say=print, advance=lambda: None)
    fabric_of = partial(make_fabric, "cpu")
    calls = []

    def work(out, callbacks):
        return Replication(plan, read, out, fabric_of, callbacks).run_all()

    assert work(tmp_path / "one", ReplicationCallbacks(on_epoch=lambda what, *_: calls.append(what)))
    names = list(dict.fromkeys(calls))
    assert [name.partition(":")[0] for name in names] == [
        *("trial 1", "trial 2", "trial 3"),
        *(f"run {n} of 6" for n in range(1, 7)),
    ]
    assert names[0] == "trial 1: U-Net, rate 0.0001, bf16-mixed"
    assert names[2].endswith("32-true")
    assert names[-1] == "run 6 of 6: improved U-Net, recipe best, fold 3 of 3"
    first = read_run(run_folder(tmp_path / "one", "unet", 0))
    held_back = [epoch["dice"] for epoch in first.epochs]
    assert len(held_back) == 4 or held_back[-1] < max(held_back[:-1]) + config.gain
    beside = read_run(run_folder(tmp_path / "one", "improved_unet-best", 0))
    assert (len(beside.epochs), beside.rate) == (1, 1e-3)

    done = False
    while not done:
        asked = iter([False] * 11)
        done = work(tmp_path / "two", ReplicationCallbacks(should_stop=lambda asked=asked: next(asked, True)))
    for name, fold in plan.runs():
        runs = [read_run(run_folder(tmp_path / out, name, fold)) for out in ("one", "two")]
        assert runs[0].losses == runs[1].losses
        assert runs[0].images == runs[1].images
    assert not list((tmp_path / "two/trials").rglob("last.pt"))
    for out in ("one", "two"):
        shutil.rmtree(tmp_path / out)


def test_finished_runs_are_not_repeated(data, finished):
    def fail(*_):
        raise AssertionError("trained again")

    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}
    assert replicate(data, finished, ReplicationCallbacks(on_step=fail, on_epoch=fail, on_run=fail))
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")} == before


def test_a_stopped_run_ends_as_an_unbroken_one(data, finished, tmp_path):
    asked = iter([False, True])  # one step, then stop
    assert not replicate(data, tmp_path, ReplicationCallbacks(should_stop=lambda: next(asked, True)))
    assert not is_finished(tmp_path, "unet", 0)
    runs = []
    assert replicate(data, tmp_path, ReplicationCallbacks(on_run=lambda: runs.append(1)))
    assert len(runs) == 2
    for fold in (0, 1):
        here, there = (run_folder(out, "unet", fold) for out in (tmp_path, finished))
        ours, theirs = (read_checkpoint(run / "weights.safetensors").weights for run in (here, there))
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
        assert read_run(here).losses == read_run(there).losses
        assert read_run(here).images == read_run(there).images
    shutil.rmtree(tmp_path / "runs")


def test_stopped_while_measuring_only_that_is_done_again(data, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    (run_folder(tmp_path / "copy", "unet", 1) / RESULT).unlink()
    asked = iter([False])
    stopping = ReplicationCallbacks(should_stop=lambda: next(asked, True))
    assert not replicate(data, tmp_path / "copy", stopping)
    epochs = []
    assert replicate(
        data, tmp_path / "copy", ReplicationCallbacks(on_epoch=lambda *call: epochs.append(call))
    )
    assert epochs == []
    folders = [run_folder(out, "unet", 1) for out in (tmp_path / "copy", finished)]
    assert read_run(folders[0]).images == read_run(folders[1]).images
    shutil.rmtree(tmp_path / "copy")


def test_a_damaged_log_is_named(data, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    folder = run_folder(tmp_path / "copy", "unet", 1)
    (folder / RESULT).unlink()
    (folder / "log.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(DataError, match=r"unet-2.*remove that folder"):
        replicate(data, tmp_path / "copy", ReplicationCallbacks())
    shutil.rmtree(tmp_path / "copy")


def test_a_report_needs_no_data(data, finished):
    stored = {"format": 1, "settings": PLAN.settings(), "data": data.facts, "open_choices": {}}
    (finished / "plan.json").write_text(json.dumps(stored))
    result = write_report(finished)
    assert result["complete_folds"] == [1, 2]
    assert result["nets"]["unet"]["dice"]["mean"] >= 0
