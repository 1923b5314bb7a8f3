"""Labelled images: image/mask folders and the Kaggle competition's layout, through one reader."""

from streamseg.datasets.near_duplicates import Twins, find_twins
from streamseg.datasets.reader import Dataset, Sample, open_dataset
from streamseg.datasets.split import Fold, folds, last_block, split_last

__all__ = [
    "Dataset",
    "Fold",
    "Sample",
    "Twins",
    "find_twins",
    "folds",
    "last_block",
    "open_dataset",
    "split_last",
]
