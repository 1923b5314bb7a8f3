"""Stored figures, read back."""

import json

import pytest

from streamseg.core.errors import DataError, UsageError
from streamseg.reproduction.plan import PLAN_FILE, run_folder
from streamseg.reproduction.results import RESULT, read_results
from tests.reproduction.stored import IMAGES, STEPS, write_stored


def test_a_run_s_figures(tmp_path):
    run = read_results(write_stored(tmp_path)).runs["segnet", 2]
    assert run.steps_per_epoch == STEPS
    assert run.step_seconds == pytest.approx(5.0)  # the slow first epoch does not count
    assert run.seconds == pytest.approx(5.0 * STEPS * 6)
    assert run.final_loss == pytest.approx(0.3)
    assert len(run.dice) == IMAGES


def test_only_folds_that_all_nets_finished_are_compared(tmp_path):
    results = read_results(write_stored(tmp_path, missing=[("segnet", 2), ("improved_unet", 2), ("unet", 3)]))
    assert results.complete == [0, 1]
    assert results.missing == [("segnet", 2), ("improved_unet", 2), ("unet", 3)]
    assert results.dice("unet").shape == (2 * IMAGES,)


def test_no_report(tmp_path):
    with pytest.raises(UsageError, match="no report"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"epochs": []}, {"images": []}, {"losses": []}, {"unknown": 1}],
)
def test_a_damaged_run_is_named(tmp_path, change):
    path = run_folder(write_stored(tmp_path), "unet", 0) / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"unet-1.*remove it"):
        read_results(tmp_path)


def test_nets_measured_on_different_images_are_not_compared(tmp_path):
    path = run_folder(write_stored(tmp_path), "segnet", 1) / RESULT
    run = json.loads(path.read_text())
    path.write_text(json.dumps({**run, "images": run["images"][1:]}))
    with pytest.raises(DataError, match="segnet-2 was measured on other images"):
        read_results(tmp_path)


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / PLAN_FILE).write_text('{"format": 1}')
    with pytest.raises(DataError, match=PLAN_FILE):
        read_results(tmp_path)
