"""Recipes: what is drawn is named by hash and seed, comes back, and its absence is said."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from streamseg.core.errors import DataError
from streamseg.datasets import Dataset, open_dataset
from streamseg.datasets.kaggle_writer import write_kaggle
from streamseg.export.recipe import Draw, Recipe, frame_hash, gather, make_recipe, phantom_recipe, read_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("made") / "data"
    write_kaggle(folder, images=15, subjects=5, seed=3)
    return open_dataset(folder)


def small(data: Dataset, **options: int) -> Recipe:
    return make_recipe("net", data, data_name="made", **({"count": 4, "phantoms": 2} | options))


def test_a_recipe_is_made_from_what_training_sees_and_judged_on_what_it_holds_back(data: Dataset) -> None:
    recipe = small(data)
    hashes = [frame_hash(sample.image) for sample in data]
    assert set(recipe.validation.frames) == set(hashes[-3:])
    assert set(recipe.calibration.frames) < set(hashes[:-3])
    assert len(set(recipe.calibration.frames)) == 4


def test_the_same_seed_draws_the_same_frames_and_another_draws_others(data: Dataset) -> None:
    assert small(data).digest == small(data).digest
    assert small(data, seed=1).digest != small(data).digest


def test_a_recipe_survives_the_file(data: Dataset, tmp_path: Path) -> None:
    recipe = small(data)
    recipe.write(tmp_path / "r.json")
    assert read_recipe(tmp_path / "r.json") == recipe


def test_the_name_does_not_change_the_digest(data: Dataset) -> None:
    recipe = small(data)
    renamed = Recipe("other", recipe.data, recipe.seed, recipe.preset, recipe.calibration, recipe.validation)
    assert renamed.digest == recipe.digest


def test_frames_come_in_the_recipe_s_order_real_ones_first(data: Dataset) -> None:
    recipe = small(data)
    frames = gather(recipe, data)
    assert [frame_hash(image) for image in frames.calibration[:4]] == list(recipe.calibration.frames)
    assert len(frames.calibration) == 6
    assert [frame_hash(s.image) for s in frames.validation[: frames.real]] == list(recipe.validation.frames)
    assert len(frames.validation) == frames.real + 4
    assert frames.data == "made and phantom"


def test_without_the_data_phantoms_replace_it_and_the_name_says_so(data: Dataset) -> None:
    with_data, without = gather(small(data), data), gather(small(data), None)
    assert len(without.calibration) == len(with_data.calibration)
    assert len(without.validation) == len(with_data.validation)
    assert without.real == 0
    assert without.data == "phantom, because made was not at hand"


def test_calibration_frames_are_left_out_if_nothing_is_calibrated(data: Dataset) -> None:
    frames, all_frames = gather(small(data), data, calibrate=False), gather(small(data), data)
    assert frames.calibration == []
    assert (frames.data, frames.real) == (all_frames.data, all_frames.real)
    assert len(frames.validation) == len(all_frames.validation)


def test_a_phantom_recipe_needs_no_data() -> None:
    frames = gather(phantom_recipe("net", calibration=2, validation=3), None)
    assert (len(frames.calibration), len(frames.validation), frames.real, frames.data) == (2, 3, 0, "phantom")


def test_data_that_lacks_the_recipe_s_images_is_refused(data: Dataset) -> None:
    with pytest.raises(DataError, match=r"3 of 7 images of recipe 'net' are not in the data given"):
        gather(small(data), data.part(range(12)))


def test_a_data_set_too_small_to_be_divided_is_refused(data: Dataset) -> None:
    with pytest.raises(DataError, match="hold back"):
        small(data.part([0]))


def test_a_hash_is_of_shape_and_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert frame_hash(image) == frame_hash(image.copy())
    assert frame_hash(image) != frame_hash(image.reshape(4, 3))
    assert frame_hash(image) != frame_hash(image + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a recipe"),
        ("[]", "is not a recipe"),
        ('{"format": "streamseg-recipe-0"}', "its format is not 'streamseg-recipe-1'"),
        ('{"format": "streamseg-recipe-1", "name": "a"}', "is not a recipe"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_recipe(tmp_path / "r.json")


def test_a_recipe_with_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    Recipe("a", "phantom", 0, "best", Draw((), 1, 0), Draw((), 1, 0)).write(tmp_path / "r.json")
    with pytest.raises(DataError, match="mixed, performance"):
        read_recipe(tmp_path / "r.json")


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read recipe"):
        read_recipe(tmp_path / "r.json")


def test_the_shipped_recipes_are_readable_and_hold_no_pixels() -> None:
    recipe = read_recipe(ROOT / "calibration" / "improved_unet.json")
    assert len(recipe.calibration.frames) == 100
    assert len(recipe.validation.frames) == 41
    assert all(len(digest) == 64 for digest in recipe.calibration.frames + recipe.validation.frames)
    assert not set(recipe.calibration.frames) & set(recipe.validation.frames)


@pytest.mark.parametrize("change", [{"phantoms": 10**9}, {"phantoms": True}, {"phantom_seed": 10**400}])
def test_a_recipe_that_would_never_end_is_refused(tmp_path, change):
    values = {"format": "streamseg-recipe-1", **asdict(phantom_recipe("unet"))}
    values["validation"] |= change
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="whole numbers"):
        read_recipe(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not a recipe"):
        read_recipe(tmp_path / "r.json")
    (tmp_path / "r.json").unlink()
    os.mkfifo(tmp_path / "r.json")
    with pytest.raises(DataError, match="not a regular file"):
        read_recipe(tmp_path / "r.json")
