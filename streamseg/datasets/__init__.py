"""Labelled images: image/mask folders and the Kaggle competition's layout, through one reader."""

from streamseg.datasets.near_duplicates import NearDuplicates, find_near_duplicates
from streamseg.datasets.reader import Dataset, Sample, open_dataset
from streamseg.datasets.split import Fold, folds, last_block, split_last

__all__ = [
    "Dataset",
    "Fold",
    "NearDuplicates",
    "Sample",
    "find_near_duplicates",
    "folds",
    "last_block",
    "open_dataset",
    "split_last",
]
