"""The parts of the submission file: which images, which threshold, what is stored, what is written."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from streamseg.backends.fake import FakeBackend
from streamseg.core.errors import DataError, SinkError, UsageError
from streamseg.core.types import InputSpec
from streamseg.engines.store import EngineStore
from streamseg.evaluation.kaggle_submission import (
    NumberedImage,
    Prediction,
    ProgressFile,
    choose_min_pixels,
    list_test_images,
    predict,
    write_submission,
)
from streamseg.evaluation.overlap import Confusion
from streamseg.segmentation.segmenter import Segmenter
from tests.datasets.rle import decode
from tests.full_disk import small_files

KEY = {"engine": "a" * 64}


def image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), value, np.uint8)).save(path)
    return path


@pytest.mark.parametrize("inner", ["", "test"])
def test_images_come_in_numeric_order(tmp_path, inner):
    for name in ("10.tif", "9.tif", "1.TIF", "2.png"):
        image(tmp_path / inner / name)
    (tmp_path / inner / "Thumbs.db").write_bytes(b"")
    (tmp_path / inner / "._9.tif").write_bytes(b"")
    assert [found.number for found in list_test_images(tmp_path)] == [1, 2, 9, 10]
    assert list_test_images(tmp_path)[3].path == tmp_path / inner / "10.tif"


@pytest.mark.parametrize(
    ("names", "named"), [((), "no test images"), (("1_1.tif",), "1_1.tif"), (("1.tif", "01.tif"), "number 1")]
)
def test_files_that_are_not_test_images_are_named(tmp_path, names, named):
    for name in names:
        image(tmp_path / name)
    with pytest.raises(DataError, match=named):
        list_test_images(tmp_path)


def test_a_folder_that_is_missing_is_a_wrong_call(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        list_test_images(tmp_path / "nowhere")


def counts(*images):
    """Of each image: pixels found, pixels of the label, pixels of both."""
    return [Confusion(both, found - both, true - both) for found, true, both in images]


def mean_dice(found, min_pixels):
    """By hand: the mean Dice with an area threshold."""
    values = [c.dice if c.both + c.predicted_only >= min_pixels else float(not c.present) for c in found]
    return float(np.mean(values))


def test_the_threshold_empties_what_is_better_empty():
    found = counts((50, 0, 0), (80, 0, 0), (90, 100, 40), (300, 310, 280), (0, 0, 0), (0, 50, 0))
    chosen = choose_min_pixels(found)
    assert (chosen.min_pixels, chosen.images) == (81, 6)
    assert chosen.dice_before == pytest.approx(mean_dice(found, 0))
    assert chosen.dice_after == pytest.approx(mean_dice(found, 81))


def test_no_threshold_beats_every_other():
    generator = np.random.default_rng(2)
    for _ in range(20):
        sizes = generator.integers(0, 12, (25, 2)) * 10
        found = counts(*((f, t, int(min(f, t) * generator.random())) for f, t in sizes))
        chosen = choose_min_pixels(found)
        best = max(mean_dice(found, pixels) for pixels in range(130))
        assert mean_dice(found, chosen.min_pixels) == pytest.approx(chosen.dice_after) == pytest.approx(best)
        assert all(mean_dice(found, pixels) < best - 1e-9 for pixels in range(chosen.min_pixels))


def test_where_nothing_is_gained_there_is_no_threshold():
    assert choose_min_pixels(counts((50, 60, 40), (0, 0, 0))).min_pixels == 0
    with pytest.raises(ValueError, match="no images"):
        choose_min_pixels([])


def test_a_prediction_is_in_the_images_own_pixels(tmp_path):
    probability = np.zeros((32, 48), np.float32)
    probability[8:24, 12:36] = 1
    segmenter = Segmenter(FakeBackend(InputSpec(32, 48, 0.0, 1.0, 0.5), probability))
    found = predict(NumberedImage(1, image(tmp_path / "1.tif")), segmenter)
    mask = decode(found.runs, (20, 30))
    assert found.area == mask.sum() == pytest.approx(10 * 15, abs=20)
    assert mask[10, 15]
    assert not mask[0].any()


def test_finished_images_are_known_to_the_next_run(tmp_path):
    one, two = (NumberedImage(n, image(tmp_path / f"{n}.tif")) for n in (1, 2))
    with ProgressFile(tmp_path / "new" / "s.csv", KEY) as finished:
        assert finished.find(one) is None
        finished.add(one, Prediction(3, "1 3"))
        assert finished.find(one) == Prediction(3, "1 3")
    with ProgressFile(tmp_path / "new" / "s.csv", KEY) as finished:
        assert (finished.find(one), finished.find(two)) == (Prediction(3, "1 3"), None)
        image(one.path, 7).write_bytes(one.path.read_bytes() + b" ")
        assert finished.find(one) is None  # another image of that name
        one.path.unlink()
        assert finished.find(one) is None
        finished.remove()
    assert list((tmp_path / "new").iterdir()) == []


def test_another_engine_begins_anew(tmp_path):
    one = NumberedImage(1, image(tmp_path / "1.tif"))
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        finished.add(one, Prediction(3, "1 3"))
    with ProgressFile(tmp_path / "s.csv", {"engine": "b" * 64}) as finished:
        assert finished.find(one) is None
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        assert finished.find(one) is None


HOSTILE = [
    b"[" * 100_000,
    b'["1.tif", "x", Infinity, "1 3"]',
    b'["1.tif", "x", 1e999, "1 3"]',
    b'["1.tif", "x", ' + b"9" * 5000 + b', "1 3"]',
    b'["1.tif", "x", 3]',
    b'{"1.tif": 3}',
    b"null",
    b"\xff\xfe",
    b"\x00" * 50,
    b'["1.tif", "x", 3, "1 3\\n2,1 9"]',
    b'["1.tif", "x", 3, "1 x"]',
    b'["1.tif", "x", 4, "1 3"]',
    b'["1.tif", "x", 3.5, "1 3"]',
    b'["1.tif", ["x"], 3, "1 3"]',
]


@pytest.mark.parametrize("line", HOSTILE)
def test_a_damaged_line_costs_its_image_alone(tmp_path, line):
    """A line that is no JSON ended every further run with a traceback."""
    images = [NumberedImage(n, image(tmp_path / f"{n}.tif")) for n in (1, 2, 3)]
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        for one in images:
            finished.add(one, Prediction(one.number, f"1 {one.number}"))
    path = finished.path
    first, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, lines[0], line + b"\n", lines[2]]))
    for _ in range(2):
        with ProgressFile(tmp_path / "s.csv", KEY) as finished:
            found = [finished.find(one) for one in images]
        assert found == [Prediction(1, "1 1"), None, Prediction(3, "1 3")]
        assert path.read_bytes() == first + lines[0] + lines[2]


def test_a_pipe_or_folder_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "s.csv.progress")
    with pytest.raises(UsageError, match=r"s\.csv\.progress is not a file"):
        ProgressFile(tmp_path / "s.csv", KEY)
    os.mkfifo(tmp_path / "3.tif")
    with pytest.raises(DataError, match=r"3\.tif is not a file"):
        list_test_images(tmp_path)


@pytest.mark.parametrize("lost", [1, 2, 12])
def test_a_line_cut_off_by_a_kill_is_made_again(tmp_path, lost):
    one, two = (NumberedImage(n, image(tmp_path / f"{n}.tif")) for n in (1, 2))
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        finished.add(one, Prediction(3, "1 3"))
        finished.add(two, Prediction(4, "1 4"))
    path = finished.path
    path.write_bytes(path.read_bytes()[:-lost])
    for _ in range(2):
        with ProgressFile(tmp_path / "s.csv", KEY) as finished:
            assert finished.find(one) == Prediction(3, "1 3")
            assert finished.find(two) in (None, Prediction(5, "1 5"))
            finished.add(two, Prediction(5, "1 5"))


def test_two_runs_do_not_write_one_file(tmp_path):
    one = NumberedImage(1, image(tmp_path / "1.tif"))
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        finished.add(one, Prediction(3, "1 3"))
        with pytest.raises(UsageError, match="another run"):
            ProgressFile(tmp_path / "s.csv", KEY)
        assert finished.find(one) == Prediction(3, "1 3")
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        assert finished.find(one) == Prediction(3, "1 3")


def test_a_file_of_another_program_is_left_alone(tmp_path):
    (tmp_path / "s.csv.progress").write_text("my notes\n")
    with pytest.raises(UsageError, match="not a progress file"):
        ProgressFile(tmp_path / "s.csv", KEY)
    assert (tmp_path / "s.csv.progress").read_text() == "my notes\n"


def test_the_file_has_a_line_an_image(tmp_path):
    rows = {
        10: Prediction(30, "1 30"),
        2: Prediction(5, "7 5"),
        3: Prediction(0, ""),
        1: Prediction(6, "1 6"),
    }
    out = tmp_path / "s.csv"
    assert write_submission(out, rows, 6, force=False) == 2
    assert out.read_bytes() == b"img,pixels\n1,1 6\n2,\n3,\n10,1 30\n"
    with pytest.raises(UsageError, match="--force"):
        write_submission(out, rows, 0, force=False)
    assert write_submission(out, rows, 0, force=True) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    one = NumberedImage(1, image(tmp_path / "1.tif"))
    long = Prediction(9, "1 1 " * 30_000)
    with small_files(50_000):
        with pytest.raises(SinkError, match=r"s\.csv"):
            write_submission(tmp_path / "s.csv", {1: long}, 0, force=False)
        with ProgressFile(tmp_path / "s.csv", KEY) as finished:
            finished.add(one, Prediction(1, "1 1"))
            with pytest.raises(SinkError, match=r"s\.csv\.progress"):
                finished.add(one, long)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.tif", "s.csv.progress"]
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        assert finished.find(one) == Prediction(1, "1 1")


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "no locks")])
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, error):
    def refuse(self, **_):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    one = NumberedImage(1, image(tmp_path / "1.tif"))
    with ProgressFile(tmp_path / "s.csv", KEY) as finished:
        finished.add(one, Prediction(3, "1 3"))
        assert finished.find(one)
    store = EngineStore(tmp_path / "store")
    with store.lock("engine"), store.staging() as folder:
        assert folder.is_dir()
