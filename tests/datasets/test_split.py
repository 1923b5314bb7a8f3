"""No split leaks: subjects stay whole, near-duplicates together; and every row is measured once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.core.errors import DataError
from streamseg.datasets import (
    Dataset,
    Fold,
    RunSplit,
    folds,
    frame_hash,
    hold_back,
    hold_back_again,
    last_block,
    open_dataset,
    split_last,
)
from streamseg.datasets.reader import SampleFiles
from tests.datasets.files import write_dataset


def entries(subjects):
    return Dataset([SampleFiles(str(n), None, None, subject) for n, subject in enumerate(subjects)])


@st.composite
def cases(draw, *, with_subjects):
    """A data set, and groups of near-duplicates in it."""
    count = draw(st.integers(2, 40))
    if with_subjects:
        data = entries(draw(st.lists(st.sampled_from("abcdefghij"), min_size=count, max_size=count)))
    else:
        data = entries([None] * count)
    rows = st.lists(st.integers(0, count - 1), min_size=2, max_size=4, unique=True)
    return data, draw(st.lists(rows, max_size=4))


def attempt(split):
    """What a split gives, and the message where it is refused."""
    try:
        return split(), ""
    except DataError as error:
        return None, str(error)


def assert_sound(data, twins, fold):
    train, validation = set(fold.train), set(fold.validation)
    assert train
    assert validation
    assert not train & validation
    assert train | validation == set(range(len(data)))
    assert list(fold.train) == sorted(fold.train)
    assert list(fold.validation) == sorted(fold.validation)
    for group in twins:
        assert set(group) <= train or set(group) <= validation


@settings(deadline=None, max_examples=60)
@given(cases(with_subjects=True), st.integers(2, 6), st.integers(0, 3))
def test_folds_by_subject(case, k, seed):
    data, twins = case
    parts, error = attempt(lambda: folds(data, k, seed=seed, near_duplicates=twins))
    if error:
        assert "give at most" in error
        return
    assert len(parts) == k
    assert sorted(row for fold in parts for row in fold.validation) == list(range(len(data)))
    for fold in parts:
        assert_sound(data, twins, fold)
        subjects = [{data.entries[row].subject for row in rows} for rows in (fold.train, fold.validation)]
        assert not subjects[0] & subjects[1]
    assert parts == folds(data, k, seed=seed, near_duplicates=twins)


@settings(deadline=None, max_examples=60)
@given(cases(with_subjects=False), st.integers(2, 6))
def test_folds_in_blocks(case, k):
    data, twins = case
    parts, error = attempt(lambda: folds(data, k, near_duplicates=twins))
    if error:
        assert "give at most" in error or "near-identical images stay together" in error
        return
    assert sorted(row for fold in parts for row in fold.validation) == list(range(len(data)))
    for fold in parts:
        assert_sound(data, twins, fold)
    bound = {row for group in twins for row in group}
    part_of = {row: part for part, fold in enumerate(parts) for row in fold.validation}
    free = [part_of[row] for row in range(len(data)) if row not in bound]
    assert free == sorted(free)


@settings(deadline=None, max_examples=60)
@given(cases(with_subjects=True) | cases(with_subjects=False), st.floats(0, 1))
def test_the_last_block_is_sound(case, fraction):
    data, twins = case
    fold, error = attempt(lambda: last_block(data, fraction, near_duplicates=twins))
    if error:
        assert "one part would be empty" in error
        return
    assert_sound(data, twins, fold)


def test_subjects_are_dealt_out_evenly_and_by_seed():
    data = entries("".join(letter * (3 + n % 4) for n, letter in enumerate("abcdefghijklmnopqrst")))
    by_seed = [folds(data, 4, seed=seed) for seed in range(3)]
    assert len(set(by_seed)) == 3
    for parts in by_seed:
        sizes = [len(fold.validation) for fold in parts]
        assert max(sizes) - min(sizes) <= 3


def test_blocks_are_even_and_contiguous():
    parts = folds(entries([None] * 10), 3)
    assert [fold.validation for fold in parts] == [(0, 1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert parts[1].train == (0, 1, 2, 3, 7, 8, 9)


def test_the_smaller_part_of_a_group_moves():
    parts = folds(entries([None] * 9), 3, near_duplicates=[(1, 2, 4)])
    assert parts[0].validation == (0, 1, 2, 4)
    fold = last_block(entries([None] * 10), 0.3, near_duplicates=[(6, 7, 8), (0, 9)])
    assert fold.validation == (6, 7, 8)


def test_pairs_across_blocks_leave_the_blocks_even():
    parts = folds(entries([None] * 40), 2, near_duplicates=[(row, row + 20) for row in range(10)])
    assert [len(fold.validation) for fold in parts] == [20, 20]


def test_subjects_that_share_an_image_stay_together():
    for fold in folds(entries("aabbccdd"), 3, near_duplicates=[(0, 7)]):
        assert {0, 1, 6, 7} <= set(fold.train) or {0, 1, 6, 7} <= set(fold.validation)


@pytest.mark.parametrize(
    ("subjects", "k", "twins", "message"),
    [
        ("aabb", 1, (), "cannot split into 1 parts; give 2 or more"),
        ("aabb", 3, (), "cannot split 2 subjects into 3 parts; give at most 2"),
        ("aabbcc", 3, [(0, 2)], "give at most 2, since some share near-identical images"),
        ([None] * 3, 4, (), "cannot split 3 images into 4 parts"),
        ([], 2, (), "cannot split 0 images"),
        ([None] * 4, 2, [(0, 1, 2, 3)], "part 2 of 2 would be empty"),
        ("aabb", 2, [(0, 4)], "near-duplicates name row 4 of 4 samples"),
    ],
)
def test_data_that_cannot_be_split_says_why(subjects, k, twins, message):
    with pytest.raises(DataError) as caught:
        folds(entries(subjects), k, near_duplicates=twins)
    assert message in str(caught.value)


def test_the_last_block_is_held_back():
    fold = last_block(entries([None] * 10), 0.3, near_duplicates=())
    assert fold.train == tuple(range(7))
    assert fold.validation == (7, 8, 9)


def test_subjects_stay_whole():
    data = entries("aaabbbbbcc")
    fold = last_block(data, 0.3, near_duplicates=())
    assert {data.entries[row].subject for row in fold.train} == {"a"}
    assert {data.entries[row].subject for row in fold.validation} == {"b", "c"}


@pytest.mark.parametrize(
    ("subjects", "fraction"),
    [("aaaa", 0.5), ([None], 0.5), ([None] * 10, 0.0), ([None] * 10, 1.0), ([], 0.5)],
)
def test_an_empty_part_is_refused(subjects, fraction):
    with pytest.raises(DataError, match="one part would be empty"):
        last_block(entries(subjects), fraction, near_duplicates=())


def repeated(folder: Path) -> Dataset:
    """Twelve images of six scenes, whose near-duplicates straddle the cut: 2, 3, 4 of one, 9, 10 of another.

    A cut after the tenth image would divide the second group.
    """
    scenes = [0, 1, 2, 2, 2, 3, 4, 5, 6, 9, 9, 9]
    samples = {}
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng(scene)
        smooth = np.kron(rng.integers(30, 220, (12, 16)), np.ones((10, 10))).astype(np.uint8)
        image = smooth + np.random.default_rng(100 + number).integers(0, 4, smooth.shape, dtype=np.uint8)
        mask = np.zeros_like(image)
        mask[20:60, 20:60] = 255
        samples[f"{number:02}"] = image, mask
    return open_dataset(write_dataset(folder, samples))


def test_whoever_holds_back_finds_the_near_duplicates(tmp_path: Path) -> None:
    """Half the images "held back" had been trained on: only training kept near-duplicates together."""
    data = repeated(tmp_path)
    groups = [(2, 3, 4), (9, 10, 11)]
    for fraction in (0.17, 0.2, 0.75):
        fold = hold_back(data, fraction)
        assert fold == last_block(data, fraction, near_duplicates=groups)
        assert [len(part) for part in split_last(data, fraction)] == [len(fold.train), len(fold.validation)]
        for group in groups:
            assert set(group) <= set(fold.train) or set(group) <= set(fold.validation)


def test_a_runs_own_split_counts_before_any_share(tmp_path: Path) -> None:
    data = repeated(tmp_path / "data")
    frames = [frame_hash(sample.image) for sample in data]
    own = Fold(train=(5, 6, 7, 9), validation=(0, 1))
    RunSplit.of(frames, own).write(tmp_path)
    split = RunSplit.read(tmp_path / "weights.safetensors")
    assert split is not None
    assert split == RunSplit.read(tmp_path)
    # 10 and 11 are near-duplicates of 9; 2, 3, 4 and 8 were added since
    assert hold_back(data, 0.2, runs=[split]).validation == (0, 1, 2, 3, 4, 8)
    other = RunSplit(frozenset(frames[:2]), frozenset())
    assert hold_back(data, 0.2, runs=[split, other]).validation == (2, 3, 4, 8)
    stranger = RunSplit(frozenset({"a" * 64}), frozenset())
    assert hold_back(data, 0.2, runs=[stranger]) == hold_back(data, 0.2)
    everything = RunSplit(frozenset(frames), frozenset())
    with pytest.raises(DataError, match="trained on all 12 images"):
        hold_back(data, 0.2, runs=[everything])


def test_weights_that_share_a_folder_have_splits_of_their_own(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    one = RunSplit(frozenset({"a", "b"}), frozenset({"c", "d"}))
    other = RunSplit(frozenset({"c"}), frozenset({"e"}))
    one.write(first)
    assert (RunSplit.read(first), RunSplit.read(second), RunSplit.read(tmp_path)) == (one, None, None)
    other.write(tmp_path)
    assert (RunSplit.read(first), RunSplit.read(second)) == (one, other)
    assert RunSplit.together([one, other]) == RunSplit(frozenset("abc"), frozenset("de"))


@pytest.mark.parametrize(
    "text", ["[]", '{"format": 1}', '{"format": 1, "train": [3], "validation": []}', "{"]
)
def test_a_damaged_split_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json"):
        RunSplit.read(tmp_path)
    (tmp_path / "split.json").unlink()
    assert RunSplit.read(tmp_path / "weights.safetensors") is None


def again(subjects, earlier, fraction, names=None, near_duplicates=()):
    """Subjects held back of images that are hashed by subject and place, such as e0."""
    data = entries(subjects)
    frames = names or [f"{subject}{n}" for n, subject in enumerate(subjects)]
    fold = hold_back_again(data, fraction, earlier, frames, near_duplicates=near_duplicates)
    return fold, RunSplit.of(frames, fold)


def test_a_later_round_holds_back_what_an_earlier_one_did():
    """The measure stays the same while the data grow, and no subject is on both sides."""
    fold, earlier = again("aabbccddee", None, 0.2)
    assert fold == last_block(entries("aabbccddee"), 0.2, near_duplicates=())
    assert earlier.validation == {"e8", "e9"}
    fold, _ = again("aabbccddeeffgghhiijj", earlier, 0.2)
    assert fold.validation == (8, 9, 18, 19)
    fold, _ = again("xxyyzz", earlier, 0.3)
    assert fold.validation == (4, 5)


def test_new_frames_of_a_subject_held_back_are_held_back():
    earlier = RunSplit(frozenset({"b2", "b3"}), frozenset({"a0"}))
    assert again("aabba", earlier, 0.1)[0].validation == (0, 1, 4)
    with pytest.raises(DataError, match="label frames of other subjects"):
        again("aabba", earlier, 0.1, near_duplicates=[(0, 2)])
