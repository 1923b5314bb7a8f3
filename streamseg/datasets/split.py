"""Splits into training and validation that do not leak."""

from __future__ import annotations

from streamseg.datasets.reader import Dataset
from streamseg.errors import DataError


def split_last(data: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Training part and validation part: the last ``fraction`` of the samples, in one contiguous block.

    Neighbours in file order may be of one volunteer, so a random split would leak. Where subjects are known
    (Kaggle) the block is widened to whole subjects. Raises DataError where a part would be empty.
    """
    cut = len(data) - round(len(data) * fraction)
    entries = data.entries
    while (
        0 < cut < len(entries)
        and entries[cut].subject is not None
        and entries[cut].subject == entries[cut - 1].subject
    ):
        cut -= 1
    if not 0 < cut < len(entries):
        raise DataError(f"cannot hold back {fraction:.0%} of {len(data)} samples; one part would be empty")
    return data[:cut], data[cut:]
