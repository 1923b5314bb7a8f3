"""Trains nets on labelled images. Needs torch."""

from streamseg.core.errors import MissingExtra

try:
    import torch as torch
except ImportError as error:  # named here once, before one of the modules stumbles over it
    raise MissingExtra("training", "torch", "train") from error
