"""Training, measuring, stopping and going on, with real nets on very small images."""

import json
import shutil

import cv2
import numpy as np
import pytest

from streamseg.core.errors import DataError
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
        on_epoch=lambda *call: calls.append(call[:2]), on_run=lambda: calls.append("run")
    )
    assert replicate(data, out, callbacks)
    assert calls == [("unet", 0), ("unet", 0), "run", ("unet", 1), ("unet", 1), "run"]
    yield out
    shutil.rmtree(out)  # weights are large


def replicate(data, out, callbacks):
    return Replication(PLAN, data, out, make_fabric("cpu"), callbacks).run_all()


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
