"""The data of a replication, read and split."""

import pytest
from PIL import Image

from streamseg.core.errors import DataError, UsageError
from streamseg.datasets.kaggle_writer import write_kaggle
from streamseg.reproduction.data import data_name, gather
from streamseg.reproduction.plan import ReplicationPlan
from streamseg.training.config import recipe
from tests.datasets.files import write_labelled

PLAN = ReplicationPlan(recipe("paper", height=64, width=64), 3)


def gathered(data, out, plan=PLAN):
    calls = []
    return gather(str(data), plan, out, say=calls.append, advance=lambda: calls.append(1)), calls


def test_a_folder(tmp_path):
    data = write_labelled(tmp_path / "some data")
    Image.open(data / "images/1.png").save(data / "images/6.png")  # a twin whose mask is empty
    Image.open(data / "masks/0.png").save(data / "masks/6.png")
    found, calls = gathered(data, tmp_path / "out")
    facts = found.facts
    assert (facts["name"], facts["kind"], facts["images"], facts["with_nerve"]) == (
        "some data",
        "folder",
        7,
        4,
    )
    assert (facts["subjects"], facts["twins"], facts["contradictions"]) == (None, [["1", "6"]], [["1", "6"]])
    assert calls == [1] * 7  # once for the nets and the near-duplicates together
    assert len(found.folds) == 3
    assert sorted(row for fold in found.folds for row in fold.validation) == list(range(7))
    assert all((1 in fold.train) == (6 in fold.train) for fold in found.folds)
    assert not (tmp_path / "out").exists()


def test_the_competition_s_folder_is_split_by_subject(tmp_path):
    write_kaggle(tmp_path, images=8, subjects=4, seed=1)
    found, _ = gathered(tmp_path, tmp_path / "out")
    assert (found.facts["subjects"], found.facts["images"], found.facts["with_nerve"]) == (4, 8, 3)
    for fold in found.folds:
        train, held_back = (
            {found.samples.entries[row].subject for row in rows} for rows in (fold.train, fold.validation)
        )
        assert not train & held_back


def test_phantoms_are_drawn_once(tmp_path):
    found, _ = gathered("phantom:3", tmp_path)
    assert (found.facts["name"], found.facts["kind"], found.facts["images"]) == ("phantom-3", "phantom", 3)
    assert 0 < found.facts["with_nerve"] < 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "phantom").rglob("*.png")}
    assert len(before) == 6
    again, _ = gathered("phantom:3", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.facts == found.facts


def test_names(tmp_path):
    assert data_name("phantom") == "phantom-200"
    assert data_name("phantom:12") == "phantom-12"
    assert data_name(f"{tmp_path}/a/../b/") == "b"


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ("phantom:many", UsageError, "phantom:N"),
        ("phantom:-3", UsageError, "phantom:N"),
        ("nowhere", UsageError, "nowhere"),
    ],
)
def test_invalid_data_is_refused(tmp_path, data, error, message):
    with pytest.raises(error, match=message):
        gathered(data, tmp_path / "out")


def test_too_few_images_for_the_folds(tmp_path):
    with pytest.raises(DataError, match="2 images into 3"):
        gathered(write_labelled(tmp_path / "data", images=2), tmp_path / "out")
