"""Validation during training, at the net's own resolution because that is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamseg.core.types import InputSpec
from streamseg.training.cache import Cache
from streamseg.training.config import TrainConfig
from streamseg.training.data import load_batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH = 16


def net_input(images: Tensor, spec: InputSpec) -> Tensor:
    """Images (N, 1, H, W) in 0..1 in the net's units, in the memory order that trains fastest."""
    return ((images - spec.mean) / spec.std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def validation_dice(
    net: nn.Module, cache: Cache, rows: Sequence[int], config: TrainConfig, fabric: Fabric
) -> float | None:
    """Mean Dice of the nerve plane over some rows of a cache; it is 1 if both are empty (paper, eq. 6).

    None without rows. Each process takes its share; all get the mean over everything.
    """
    net.eval()
    if not rows:
        return None
    spec = config.spec
    mine = torch.tensor(rows[fabric.global_rank :: fabric.world_size], dtype=torch.long)
    total = torch.zeros((), device=fabric.device)
    for batch in load_batches(cache, torch.split(mine, BATCH) if len(mine) else [], fabric.device):
        with fabric.autocast():
            logits = net(net_input(batch.images, spec))[:, 0]
        found = torch.sigmoid(logits.float()) >= spec.threshold
        truth = batch.labels[:, 0] > 0
        overlap = (found & truth).sum((1, 2))
        size = found.sum((1, 2)) + truth.sum((1, 2))
        total += torch.where(size > 0, 2 * overlap / size.clamp(min=1), 1.0).sum()
    return float(torch.as_tensor(fabric.all_reduce(total, reduce_op="sum"))) / len(rows)
