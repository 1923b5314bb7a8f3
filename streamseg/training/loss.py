"""Losses of nerve segmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dice_loss(probability: Tensor, target: Tensor, *, k: float = 1.0) -> Tensor:
    """The paper's similarity loss (eq. 4-5): mean over images of ``1 - (2|X n Y| + k) / (|X| + |Y| + k)``.

    ``probability`` and ``target`` (N, ...) in 0..1; the intersection is soft. ``k`` lets images without nerve
    count: an empty prediction of an empty image costs nothing.
    """
    p, t = probability.flatten(1), target.flatten(1)
    overlap = (p * t).sum(1)
    return torch.mean(1 - (2 * overlap + k) / (p.sum(1) + t.sum(1) + k))


def segmentation_loss(logits: Tensor, target: Tensor, *, k: float = 1.0) -> Tensor:
    """Dice loss plus mean binary cross-entropy, of logits (N, H, W) against a target (N, H, W) of 0/1."""
    return dice_loss(torch.sigmoid(logits), target, k=k) + F.binary_cross_entropy_with_logits(logits, target)
