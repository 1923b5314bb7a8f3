"""Phantoms as a data set, in place of a folder and in the layout of the Kaggle competition."""

import re

import numpy as np
import pytest
from PIL import Image

from streamseg.core.errors import SinkError, UsageError
from streamseg.datasets import open_dataset
from streamseg.datasets.kaggle_writer import write_kaggle
from streamseg.datasets.phantoms import open_or_draw, open_or_render, phantom_count, phantom_samples
from streamseg.phantom.seeds import VALIDATION
from tests.full_disk import small_files


def test_phantoms_are_drawn_once_and_missing_ones_again(tmp_path):
    data = open_or_draw("phantom:3", tmp_path)
    assert len(data) == 3
    assert any(sample.nerve.any() for sample in data)
    assert all(sample.vessel is not None for sample in data)
    files = sorted((tmp_path / "phantom").rglob("*.png"))
    before = [p.read_bytes() for p in files]
    files[1].unlink()
    kept = files[0].stat().st_mtime_ns
    open_or_draw("phantom:3", tmp_path)
    assert [p.read_bytes() for p in files] == before
    assert files[0].stat().st_mtime_ns == kept
    assert len(open_or_draw("phantom:2", tmp_path)) == 2


def test_phantoms_to_measure_on_are_those_that_nets_are_judged_on():
    rendered = open_or_render("phantom:3")
    judged = list(phantom_samples(3, seed=VALIDATION.first))
    assert [sample.name for sample in rendered] == [sample.name for sample in judged]
    np.testing.assert_array_equal(rendered[1].image, judged[1].image)
    assert [sample.name for sample in rendered[1:]] == [sample.name for sample in judged[1:]]
    assert (len(rendered), len(rendered[:2]), rendered[-1].name) == (3, 2, judged[2].name)


def test_a_folder_is_a_folder(tmp_path):
    assert phantom_count(str(tmp_path)) is None
    assert phantom_count("phantom") == 200
    assert phantom_count("phantom:12") == 12


@pytest.mark.parametrize("data", ["phantom:", "phantom:x", "phantom:1", "phantom:-3"])
def test_an_invalid_number_is_named(data):
    with pytest.raises(UsageError, match="invalid number of phantoms"):
        phantom_count(data)


def test_phantoms_come_with_and_without_nerve():
    samples = list(phantom_samples(12, seed=0))
    assert 0 < sum(s.nerve.any() for s in samples) < 12
    assert [s.name for s in samples] == [f"phantom-{n}" for n in range(12)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "set"
    calls = []
    shown = write_kaggle(out, images=17, subjects=3, seed=5, progress=lambda: calls.append(1))
    assert len(calls) == 17
    return out, shown


def test_layout_and_values(written):
    out, _ = written
    names = sorted(path.name for path in (out / "train").iterdir())
    assert len(names) == 34
    assert all(re.fullmatch(r"[1-3]_\d+(_mask)?\.tif", name) for name in names)
    numbers: dict[str, list[int]] = {"1": [], "2": [], "3": []}
    for name in names:
        if not name.endswith("_mask.tif"):
            subject, number = name.removesuffix(".tif").split("_")
            numbers[subject].append(int(number))
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values())
    assert sorted(len(found) for found in numbers.values()) == [5, 6, 6]
    for name in names:
        with Image.open(out / "train" / name) as picture:
            assert picture.size == (580, 420)
            assert picture.mode == "L"
            values = set(np.unique(np.asarray(picture)).tolist())
        assert values <= {0, 255} if name.endswith("_mask.tif") else len(values) > 50


def test_more_than_half_of_the_masks_are_empty(written):
    out, shown = written
    areas = [int(sample.nerve.sum()) for sample in open_dataset(out)]
    assert sum(area > 0 for area in areas) == shown
    assert 0 < shown < len(areas) / 2
    assert all(area == 0 or area >= 60 for area in areas)


def test_images_of_one_subject_resemble_each_other(written):
    out, _ = written
    rows = {"1": [], "2": [], "3": []}
    for sample in open_dataset(out):
        rows[sample.name[0]].append(np.log1p(sample.image.mean(axis=1)))
    within = np.mean([np.std(profiles, axis=0).mean() for profiles in rows.values()])
    between = np.std([np.mean(profiles, axis=0) for profiles in rows.values()], axis=0).mean()
    assert within < between


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_kaggle(tmp_path / name, images=3, subjects=1, seed=seed)

    def contents(name):
        return {path.name: path.read_bytes() for path in (tmp_path / name / "train").iterdir()}

    assert contents("a") == contents("b")
    assert contents("a") != contents("c")


def test_an_output_is_kept_unless_forced(tmp_path):
    out = tmp_path / "set"
    (out / "train").mkdir(parents=True)
    (out / "train" / "9_9.tif").write_bytes(b"old")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        write_kaggle(out, images=1, subjects=1, seed=0)
    assert (out / "train" / "9_9.tif").read_bytes() == b"old"
    write_kaggle(out, images=1, subjects=1, seed=0, force=True)
    assert sorted(path.name for path in (out / "train").iterdir()) == ["1_1.tif", "1_1_mask.tif"]
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", "train"]


def test_an_interrupted_run_leaves_no_train_and_the_next_one_succeeds(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_kaggle(tmp_path, images=4, subjects=1, seed=0, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    # What a killed process leaves behind.
    (tmp_path / "train.partial").mkdir()
    (tmp_path / "train.partial" / "1_1.tif").write_bytes(b"half")
    write_kaggle(tmp_path, images=1, subjects=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    assert len(open_dataset(tmp_path)) == 1


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"images": 0, "subjects": 1, "seed": 0}, "0 images"),
        ({"images": 2, "subjects": 3, "seed": 0}, "3 subjects"),
        ({"images": 2, "subjects": 0, "seed": 0}, "0 subjects|among 0"),
        ({"images": 2, "subjects": 1, "seed": -1}, "-1"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, numbers, named):
    with pytest.raises(UsageError, match=named):
        write_kaggle(tmp_path / "set", **numbers)
    assert not (tmp_path / "set").exists()


def test_a_file_as_output_is_refused(tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(UsageError, match="is a file"):
        write_kaggle(tmp_path / "set", images=1, subjects=1, seed=0, force=True)


def test_a_full_disk_gives_one_line_and_leaves_nothing_half_done(tmp_path):
    with small_files(100_000), pytest.raises(SinkError) as caught:
        write_kaggle(tmp_path, images=2, subjects=1, seed=0)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
