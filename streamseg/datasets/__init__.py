"""Labelled images: image/mask folders and the Kaggle competition's layout, through one reader."""

from streamseg.datasets.near_duplicates import NearDuplicates, find_near_duplicates
from streamseg.datasets.reader import Dataset, Sample, frame_hash, open_dataset, read_licence
from streamseg.datasets.split import Fold, RunSplit, folds, hold_back, hold_back_again, last_block, split_last

__all__ = [
    "Dataset",
    "Fold",
    "NearDuplicates",
    "RunSplit",
    "Sample",
    "find_near_duplicates",
    "folds",
    "frame_hash",
    "hold_back",
    "hold_back_again",
    "last_block",
    "open_dataset",
    "read_licence",
    "split_last",
]
