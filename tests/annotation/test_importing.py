"""Labels become a data set: who looked at what, what stays out, and what a kill leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from streamseg.annotation import importing
from streamseg.annotation.formats import FORMATS, format_of
from streamseg.annotation.frames import Draft, Review, Selection, frames_of_images, write_image, write_mask
from streamseg.annotation.importing import parse_map, read_labels, write_dataset
from streamseg.core.errors import DataError, UsageError
from streamseg.datasets import open_dataset
from streamseg.datasets.reader import survey
from tests.annotation.selections import HEIGHT, WIDTH, disc, make_masks, write_selection


def mark(selection: Selection, *names: str) -> None:
    """Write yes into looked_at of some frames."""
    table = selection.folder / "frames.csv"
    lines = [
        line.rpartition(",")[0] + ",Yes" if line.partition(",")[0] in names else line
        for line in table.read_text().splitlines()
    ]
    table.write_text("\n".join(lines) + "\n")


def test_who_looked_at_what(tmp_path: Path) -> None:
    """Of four frames: a draft nobody changed, one that was, one that was marked, one that nobody opened."""
    selection = write_selection(tmp_path, "masks", {0: make_masks(0), 1: make_masks(1)})
    frames = selection.frames
    write_mask(tmp_path / "masks" / f"{frames[1].name}.png", disc(30, 20, 5).astype(np.uint8))
    mark(selection, frames[2].name)
    found = read_labels(tmp_path, selection)
    assert found.problems == ()
    reviews = [one.review for one in found.frames]
    assert reviews == [Review.DRAFT, Review.LOOKED_AT, Review.LOOKED_AT, Review.NOT_LOOKED_AT]
    assert found.names(Review.DRAFT) == [frames[0].name]


def test_a_draft_that_was_removed_says_that_there_is_nothing(tmp_path: Path) -> None:
    selection = write_selection(tmp_path, "masks", {1: make_masks(1)})
    write_mask(tmp_path / "masks" / f"{selection.frames[1].name}.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    one = read_labels(tmp_path, selection).frames[1]
    assert one.review is Review.LOOKED_AT
    assert not one.masks["nerve"].any()


@pytest.mark.parametrize("name", FORMATS)
def test_the_data_set_has_the_labels_of_every_format(tmp_path: Path, name: str) -> None:
    """Labels made in each format, with all frames looked at, are what training reads."""
    selection = write_selection(tmp_path / "selection", name)
    drafts = [Draft(frame, make_masks(number)) for number, frame in enumerate(selection.frames)]
    format_of(name).write(selection.folder, drafts)
    if name == "labelstudio":
        path = selection.folder / "tasks.json"
        tasks = json.loads(path.read_text())
        for task in tasks:
            task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
        path.write_text(json.dumps(tasks))
    found = read_labels(selection.folder, selection, all_looked_at=True)
    written = write_dataset(tmp_path / "data", found.frames, selection, licence="CC0")
    assert (written.added, written.images, written.with_nerve, written.vessels) == (4, 4, 2, True)
    data = open_dataset(tmp_path / "data")
    assert survey(tmp_path / "data")[1] == ()
    assert [sample.subject for sample in data] == ["0", "1", "0", "1"]
    for number, sample in enumerate(data):
        masks = make_masks(number)
        np.testing.assert_array_equal(sample.nerve, masks["nerve"])
        # A mask without any label has no index that would tell which kind it is.
        empty = np.zeros((HEIGHT, WIDTH), np.bool_)
        np.testing.assert_array_equal(empty if sample.vessel is None else sample.vessel, masks["vessel"])
    assert (tmp_path / "data" / "licence.txt").read_text() == "CC0\n"


def test_without_any_vessel_vessels_count_as_not_labelled(tmp_path: Path) -> None:
    selection = write_selection(tmp_path / "selection", "masks")
    write_mask(selection.folder / "masks" / f"{selection.frames[1].name}.png", disc(9, 9, 5).astype(np.uint8))
    found = read_labels(selection.folder, selection, all_looked_at=True)
    assert not write_dataset(tmp_path / "data", found.frames, selection).vessels
    assert [sample.vessel for sample in open_dataset(tmp_path / "data")] == [None] * 4


def test_a_second_import_adds_and_replaces(tmp_path: Path) -> None:
    selection, out = write_selection(tmp_path / "selection", "masks"), tmp_path / "data"
    mark(selection, selection.frames[0].name, selection.frames[1].name)
    first = write_dataset(out, read_labels(selection.folder, selection).frames, selection, licence="CC0")
    assert (first.added, first.replaced, first.images) == (2, 0, 2)
    mark(selection, *(frame.name for frame in selection.frames))
    write_mask(selection.folder / "masks" / f"{selection.frames[1].name}.png", disc(9, 9, 5).astype(np.uint8))
    second = write_dataset(out, read_labels(selection.folder, selection).frames, selection)
    assert (second.added, second.replaced, second.images) == (2, 2, 4)
    assert open_dataset(out)[1].nerve.any()
    assert (out / "licence.txt").exists()


@pytest.mark.parametrize("killed_before", ["partial.rename", "out.rename", "rmtree(replaced)"])
def test_a_kill_leaves_the_data_set_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    """The states of the disk between the steps of a change, as a kill would leave them."""
    selection, out = write_selection(tmp_path / "selection", "masks"), tmp_path / "data"
    frames = read_labels(selection.folder, selection, all_looked_at=True).frames
    write_dataset(out, frames[:2], selection)
    new = tmp_path / "new"
    write_dataset(new, frames, selection)
    if killed_before == "out.rename":
        new.rename(tmp_path / "data.partial")
    elif killed_before == "partial.rename":
        out.rename(tmp_path / "data.replaced")
        new.rename(tmp_path / "data.partial")
    else:
        out.rename(tmp_path / "data.replaced")
        new.rename(out)
    written = write_dataset(out, frames[2:], selection)
    assert written.images == 4
    assert len(open_dataset(out)) == 4
    assert sorted(path.name for path in tmp_path.iterdir() if "data" in path.name) == ["data"]


def test_a_failed_write_leaves_the_data_set_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, out = write_selection(tmp_path / "selection", "masks"), tmp_path / "data"
    frames = read_labels(selection.folder, selection, all_looked_at=True).frames
    write_dataset(out, frames[:2], selection)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "_write_tables", stop)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(out, frames, selection)
    assert len(open_dataset(out)) == 2
    assert not (tmp_path / "data.partial").exists()


def test_a_folder_of_another_origin_is_not_touched(tmp_path: Path) -> None:
    selection = write_selection(tmp_path / "selection", "masks")
    frames = read_labels(selection.folder, selection, all_looked_at=True).frames
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds files that no import wrote"):
        write_dataset(out, frames, selection)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_structures_are_mapped_by_name(tmp_path: Path) -> None:
    selection = write_selection(tmp_path, "coco", {0: make_masks(0)})
    path = tmp_path / "annotations.json"
    document = json.loads(path.read_text())
    document["categories"] = [{"id": 1, "name": "brachial=plexus"}, {"id": 2, "name": "bone"}]
    path.write_text(json.dumps(document))
    found = read_labels(tmp_path, selection)
    assert [line.partition(": ")[2].partition(";")[0] for line in found.problems] == [
        "unknown structure 'bone'",
        "unknown structure 'brachial=plexus'",
    ]
    assert str(path) in found.problems[0]
    assert len(found.frames) == 3
    names = parse_map(["brachial=plexus=nerve", "bone=ignore"])
    found = read_labels(tmp_path, selection, structures=names)
    assert found.problems == ()
    np.testing.assert_array_equal(found.frames[0].masks["nerve"], make_masks(0)["nerve"])
    assert not found.frames[0].masks["vessel"].any()


@pytest.mark.parametrize("entry", ["nerve", "=nerve", "bone=", "bone=muscle"])
def test_a_map_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(UsageError, match="is not NAME=STRUCTURE"):
        parse_map([entry])


def test_labels_of_any_folder_of_images(tmp_path: Path) -> None:
    """Without a selection the frames are the images of a folder, and none is a draft."""
    selection = write_selection(tmp_path, "coco", {0: make_masks(0)})
    shutil.rmtree(tmp_path / "drafts")
    found = read_labels(tmp_path / "annotations.json", frames_of_images(tmp_path / "images"))
    assert [one.review for one in found.frames] == [Review.LOOKED_AT] + [Review.NOT_LOOKED_AT] * 3
    assert [one.frame.name for one in found.frames] == [frame.name for frame in selection.frames]


def test_images_that_are_missing_or_were_resized_are_named(tmp_path: Path) -> None:
    selection = write_selection(tmp_path, "masks")
    first, second = (selection.image(frame) for frame in selection.frames[:2])
    first.unlink()
    write_image(second, np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    found = read_labels(tmp_path, selection, all_looked_at=True)
    assert len(found.problems) == 2
    assert str(first) in found.problems[0]
    assert f"{second}: it is {WIDTH + 1}x{HEIGHT}, it was selected as" in found.problems[1]
    assert [one.frame for one in found.frames] == list(selection.frames[2:])
