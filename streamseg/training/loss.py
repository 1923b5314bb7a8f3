"""Losses of nerve segmentation. Each is computed per image and averaged over images, so that the mean over
several processes' equal parts of a batch is the whole batch's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def dice_loss(probability: Tensor, target: Tensor, *, k: float = 1.0) -> Tensor:
    """The paper's similarity loss (eq. 4-5) of each image: ``1 - (2|X n Y| + k) / (|X| + |Y| + k)``.

    ``probability`` and ``target`` (N, ...) in 0..1; returns (N,). The intersection is soft. ``k`` lets images
    without nerve count: an empty prediction of an empty image costs nothing. The paper's loss is the mean.
    """
    p, t = probability.flatten(1), target.flatten(1)
    overlap = (p * t).sum(1)
    return 1 - (2 * overlap + k) / (p.sum(1) + t.sum(1) + k)


def plane_loss(kind: str, logits: Tensor, target: Tensor, *, k: float = 1.0) -> Tensor:
    """Loss (N,) of each image's logits (N, H, W) against a target (N, H, W) of 0/1.

    ``kind`` is ``dice``, or ``dice+bce``: the pixels' mean binary cross-entropy is added. Computed in float32
    whatever the precision of the logits.
    """
    logits = logits.float()
    loss = dice_loss(logits.sigmoid(), target, k=k)
    if kind == "dice":
        return loss
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss + entropy.flatten(1).mean(1)


def batch_loss(
    kind: str,
    logits: Tensor,
    labels: Tensor,
    vessel_known: Tensor,
    *,
    k: float = 1.0,
    vessel_weight: float = 0.0,
    taught: Tensor | None = None,
    soft: float = 0.0,
) -> Tensor:
    """Mean loss over images: the nerve plane's, and the vessel plane's if it is trained and known.

    ``logits`` (N, 1 or 2, H, W), ``labels`` (N, 2, H, W) of 0/1, ``vessel_known`` (N,) bool. ``taught``
    (N, 1 or 2, H, W) are the teachers' probabilities, which count with weight ``soft`` beside the labels in
    the planes that they have, whether vessels are labelled or not.
    """

    def plane(number: int, known: Tensor | None = None) -> Tensor:
        loss = plane_loss(kind, logits[:, number], labels[:, number], k=k)
        loss = loss if known is None else known * loss
        if taught is None or taught.shape[1] <= number:
            return loss
        return (1 - soft) * loss + soft * plane_loss(kind, logits[:, number], taught[:, number], k=k)

    loss = plane(0)
    if vessel_weight:
        loss = loss + vessel_weight * plane(1, vessel_known)
    return loss.mean()
