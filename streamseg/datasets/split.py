"""Splits into training and validation without leaks: by subject or in blocks, near-duplicates together.

A run stores its split in its folder (:class:`RunSplit`), so that whoever evaluates its weights holds back the
same images, whatever share was asked for and whatever was added to the data set since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamseg.core.errors import DataError
from streamseg.core.files import read_json, write_text
from streamseg.core.types import Grey
from streamseg.datasets.near_duplicates import find_near_duplicates, reduced
from streamseg.datasets.reader import SUBJECTS_FILE, Dataset, Sample, frame_hash

SPLIT_FILE = "split.json"
"""A run's split, in its folder. That of weights whose folder holds others, too, is ``NAME.split.json``."""
WEIGHTS_SUFFIX = ".safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Fold:
    """Which rows of a data set train a net and which measure it; ascending, disjoint, neither empty."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def folds(
    data: Dataset, k: int, *, seed: int = 0, near_duplicates: Sequence[Sequence[int]] = ()
) -> tuple[Fold, ...]:
    """k folds; each row is in the validation part of exactly one.

    ``near_duplicates`` are groups of rows with near-identical images; those of a group stay in one part.

    If the data has subjects, they are shuffled by ``seed`` and dealt out whole so that the parts have similar
    numbers of images; subjects that share near-duplicates stay together. If it has none, neighbours in file
    order may be of one volunteer: the parts are contiguous blocks, ``seed`` is not used, and a group of
    near-duplicates goes to the part that holds most of it, to the smaller part in a tie.

    Raises DataError for k < 2, for more parts than there are subjects or images, and for a part that would be
    empty because of near-duplicates.
    """
    if k < 2:
        raise DataError(f"cannot split into {k} parts; give 2 or more")
    bound = _bound_together(data, near_duplicates)
    part_of = _dealt(data, bound, k, seed) if _has_subjects(data) else _blocks(len(data), bound, k)
    return tuple(_fold(part_of == part) for part in range(k))


@dataclass(frozen=True, slots=True)
class RunSplit:
    """The images that a run trained on and those that it held back, each by its :func:`frame_hash`."""

    train: frozenset[str]
    validation: frozenset[str]

    @classmethod
    def of(cls, frames: Sequence[str], fold: Fold) -> RunSplit:
        """A fold of a data set with these hashes, one for each row."""
        return cls(*(frozenset(frames[row] for row in rows) for rows in (fold.train, fold.validation)))

    @classmethod
    def read(cls, run: Path) -> RunSplit | None:
        """The split of a run's folder, or of weights: their own, or that of their folder; None if none is
        stored there.

        Raises DataError for a damaged file.
        """
        path = (run if run.is_dir() else run.parent) / SPLIT_FILE
        if run.suffix == WEIGHTS_SUFFIX and (own := _split_of_weights(run)).exists():
            path = own
        found = read_json(path)
        if found is None:
            return None
        parts = [found.get(name) for name in ("train", "validation")]
        if found.get("format") != FORMAT or not all(
            isinstance(part, list) and all(isinstance(frame, str) for frame in part) for part in parts
        ):
            raise DataError(f"{path} is not a split of this version; remove it, or train again")
        train, validation = (frozenset(part or ()) for part in parts)
        return cls(train, validation)

    @classmethod
    def together(cls, splits: Sequence[RunSplit]) -> RunSplit:
        """The split of weights that are the mean of several runs': what one has seen is not held back."""
        train = frozenset[str]().union(*(split.train for split in splits))
        return cls(train, frozenset[str]().union(*(split.validation for split in splits)) - train)

    def write(self, to: Path) -> None:
        """Write it into a run's folder, or beside a ``.safetensors`` file as its own. Raises SinkError."""
        path = _split_of_weights(to) if to.suffix == WEIGHTS_SUFFIX else to / SPLIT_FILE
        parts = {"train": sorted(self.train), "validation": sorted(self.validation)}
        write_text(path, json.dumps({"format": FORMAT, **parts}, indent=1) + "\n")


def _split_of_weights(weights: Path) -> Path:
    return weights.with_suffix(f".{SPLIT_FILE}")


def hold_back(data: Dataset, fraction: float, *, runs: Sequence[RunSplit] = ()) -> Fold:
    """Split rows into those that trained and those held back: the one split to measure or judge a net with.

    By default that is :func:`last_block`, which training uses too, with the near-duplicates found in the
    images. If ``runs`` trained on some of the images, their split is used instead: held back are the images
    of which none of them has seen the image itself, a near-duplicate or another image of its subject.

    Reads every image. Raises DataError for a bad image, and if a part would be empty.
    """
    samples = list(map(_fingerprint, data)) if data else []
    images, masks = (np.array([sample[part] for sample in samples], np.uint8) for part in (1, 2))
    groups = find_near_duplicates(images, masks).groups if samples else ()
    trained = frozenset[str]().union(*(run.train for run in runs))
    seen = np.array([frame in trained for frame, _, _ in samples], np.bool_)
    if not seen.any():
        return last_block(data, fraction, near_duplicates=groups)
    for rows in _bound_together(data, groups):
        seen[rows] = seen[rows].any()
    if seen.all():
        raise DataError(
            f"the weights were trained on all {len(data)} images, or on near-identical ones or others of the "
            "same subjects; give images that they have not seen"
        )
    return _fold(~seen)


def _fingerprint(sample: Sample) -> tuple[str, Grey, Grey]:
    return frame_hash(sample.image), *reduced(sample.image, sample.nerve)


def last_block(data: Dataset, fraction: float, *, near_duplicates: Sequence[Sequence[int]]) -> Fold:
    """Hold back the last ``fraction`` (0..1) of the rows for validation, in one contiguous block.

    If subjects are known (Kaggle) the block is widened to whole subjects; a group of near-duplicates on both
    sides goes to the side that has more of it, to training in a tie. Raises DataError if a part would be
    empty.
    """
    entries = data.entries
    cut = len(data) - round(len(data) * fraction)
    while (
        0 < cut < len(entries)
        and entries[cut].subject is not None
        and entries[cut].subject == entries[cut - 1].subject
    ):
        cut -= 1
    held_back = np.arange(len(data)) >= cut
    for rows in _bound_together(data, near_duplicates):
        held_back[rows] = held_back[rows].sum() * 2 > len(rows)
    if not held_back.any() or held_back.all():
        raise DataError(
            f"cannot hold back {fraction:.0%} of {len(data)} samples; one part would be empty"
            f"{_one_subject(data)}"
        )
    return _fold(held_back)


def hold_back_again(
    data: Dataset,
    fraction: float,
    earlier: RunSplit | None,
    frames: Sequence[str],
    *,
    near_duplicates: Sequence[Sequence[int]],
) -> Fold:
    """Hold back what an earlier run held back, and of what it did not know the last rows, up to ``fraction``.

    So runs on a data set that grows are measured on the same images, and on further ones. ``frames`` are the
    rows' hashes. Subjects stay whole, and so do groups of near-duplicates. Without an earlier run, or if it
    knew none of the images that it held back, this is :func:`last_block`. Raises DataError if a part would be
    empty.
    """
    known = frozenset[str]() if earlier is None else earlier.validation
    held_back = np.array([frame in known for frame in frames], np.bool_)
    if earlier is None or not held_back.any():
        return last_block(data, fraction, near_duplicates=near_duplicates)
    bound = _bound_together(data, near_duplicates)
    for rows in bound:
        held_back[rows] = held_back[rows].any()
    for rows in sorted(bound, key=max, reverse=True):
        new = not held_back[rows].any() and not any(frames[row] in earlier.train for row in rows)
        if new and held_back.sum() + len(rows) <= fraction * len(data):
            held_back[rows] = True
    if held_back.all():
        raise DataError(
            f"all {len(data)} images are of subjects that an earlier round held back, or near-identical to "
            "theirs; label frames of other subjects"
        )
    return _fold(held_back)


def split_last(data: Dataset, fraction: float, *, runs: Sequence[RunSplit] = ()) -> tuple[Dataset, Dataset]:
    """Training part and validation part by :func:`hold_back`, as data sets. Raises DataError."""
    fold = hold_back(data, fraction, runs=runs)
    return data.part(fold.train), data.part(fold.validation)


def _one_subject(data: Dataset) -> str:
    """The cause, for a message, if no split is possible because all images are of one subject."""
    subjects = {entry.subject for entry in data.entries}
    if len(data) < 2 or len(subjects) > 1 or None in subjects:
        return ""
    return (
        f", since all images are of one subject, {next(iter(subjects))!r} (the part of a name before '_'); "
        f"if that is wrong, put a file {SUBJECTS_FILE} into the data set's folder, with a line name,subject "
        "for each image"
    )


def _fold(held_back: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Fold:
    return Fold(
        tuple(np.flatnonzero(~held_back).tolist()),
        tuple(np.flatnonzero(held_back).tolist()),
    )


def _has_subjects(data: Dataset) -> bool:
    return bool(data.entries) and all(entry.subject is not None for entry in data.entries)


def _bound_together(data: Dataset, near_duplicates: Iterable[Sequence[int]]) -> list[list[int]]:
    """All rows in groups that no split may divide: those connected by a subject or by near-duplicates."""
    leader = list(range(len(data)))

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = row = leader[leader[row]]
        return row

    first_of: dict[str, int] = {}
    for row, entry in enumerate(data.entries):
        if entry.subject is not None:
            leader[find(row)] = find(first_of.setdefault(entry.subject, row))
    for group in near_duplicates:
        for row in group:
            if not 0 <= row < len(data):
                raise DataError(
                    f"near-duplicates name row {row} of {len(data)} samples; find them in the same data"
                )
            leader[find(row)] = find(group[0])
    groups: dict[int, list[int]] = {}
    for row in range(len(data)):
        groups.setdefault(find(row), []).append(row)
    return list(groups.values())


def _dealt(
    data: Dataset, bound: list[list[int]], k: int, seed: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The part of each row: groups, shuffled and the largest first, go to the part with the fewest rows."""
    if k > len(bound):
        subjects = len({entry.subject for entry in data.entries})
        why = ", since some share near-identical images" if len(bound) < subjects else ""
        raise DataError(
            f"cannot split {subjects} subjects into {k} parts; give at most {len(bound)}{why}"
            f"{_one_subject(data)}"
        )
    part_of = np.zeros(len(data), np.int64)
    sizes = [0] * k
    shuffled = [bound[i] for i in np.random.default_rng(seed % 2**64).permutation(len(bound))]
    for rows in sorted(shuffled, key=len, reverse=True):
        part = sizes.index(min(sizes))
        part_of[rows] = part
        sizes[part] += len(rows)
    return part_of


def _blocks(count: int, bound: list[list[int]], k: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Part of each row: contiguous blocks, except that each group of near-duplicates is in one."""
    if k > count:
        raise DataError(f"cannot split {count} images into {k} parts; give at most {count}")
    part_of = np.arange(count) * k // count
    for rows in bound:
        if len(rows) > 1:
            inside, sizes = (np.bincount(part_of[of], minlength=k) for of in (rows, slice(None)))
            part_of[rows] = min(range(k), key=lambda part: (-inside[part], sizes[part]))
    sizes = np.bincount(part_of, minlength=k)
    if not sizes.all():
        raise DataError(
            f"part {int(sizes.argmin()) + 1} of {k} would be empty, since near-identical images stay "
            "together; give fewer parts"
        )
    return part_of
