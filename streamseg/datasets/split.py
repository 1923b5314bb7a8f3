"""Splits into training and validation without leaks: by subject or in blocks, near-duplicates together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamseg.core.errors import DataError
from streamseg.datasets.reader import Dataset


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


def last_block(data: Dataset, fraction: float, *, near_duplicates: Sequence[Sequence[int]] = ()) -> Fold:
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
        raise DataError(f"cannot hold back {fraction:.0%} of {len(data)} samples; one part would be empty")
    return _fold(held_back)


def split_last(data: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Training part and validation part by :func:`last_block`, as data sets. Raises DataError."""
    fold = last_block(data, fraction)
    return data.part(fold.train), data.part(fold.validation)


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
    """Part of each row: groups in random order, the largest first, each to the part with the fewest rows."""
    if k > len(bound):
        subjects = len({entry.subject for entry in data.entries})
        why = ", since some share near-identical images" if len(bound) < subjects else ""
        raise DataError(f"cannot split {subjects} subjects into {k} parts; give at most {len(bound)}{why}")
    part_of = np.zeros(len(data), np.int64)
    sizes = [0] * k
    shuffled = [bound[i] for i in np.random.default_rng(seed).permutation(len(bound))]
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
