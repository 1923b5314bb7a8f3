"""Writes a net's weights as a checkpoint, loads another run's weights, and averages them during training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from streamseg.core.errors import UsageError
from streamseg.engines.checkpoint import write_checkpoint
from streamseg.training.config import TrainConfig

HEAD = ("head.weight", "head.bias")
"""Names of the layer that has a channel for each structure."""


def write_weights(path: Path, net: nn.Module, config: TrainConfig) -> None:
    """Write a net as a checkpoint, with a plane for each structure that it was trained on.

    Raises EngineError for weights that are not finite (the file stays as it was), SinkError.
    """
    state = {
        name: tensor.detach().cpu().contiguous().numpy()
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_checkpoint(
        path,
        state,
        net=config.net,
        folded=False,
        trained=True,
        spec=config.spec,
        restyled=config.restyle > 0,
    )


def take_weights(net: nn.Module, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy another run's weights into a net; if only one of the two has a vessel plane, all but that.

    Raises UsageError for weights that do not fit.
    """
    own = net.state_dict()
    for name, given in weights.items():
        array = given[: len(own[name])] if name in HEAD and name in own else given
        if name not in own or own[name][: len(array)].shape != array.shape:
            raise UsageError(
                f"the weights to start from do not fit the net: {name} {array.shape}; "
                "give unfolded weights of the same net"
            )
        own[name][: len(array)] = torch.from_numpy(array)


def running_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An update rule for ``AveragedModel``: exponential with ``decay``, but faster in the first steps.

    After n steps the decay is at most (1 + n) / (10 + n), so that a short run's average forgets the random
    initial weights.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:
                old.copy_(new)

    return update


@torch.no_grad()
def recompute_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the means and variances of BatchNorm again, from batches (N, 1, H, W) in the net's units.

    Averaged weights need this: the variance of what they compute is not the average of the variances that
    the single ones computed (Izmailov et al. 2018, arXiv:1803.05407, section 3.2). The net ends in eval mode.
    """
    net.eval()
    modules = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta = [module.momentum for module in modules]
    for module in modules:
        module.reset_running_stats()
        module.momentum = None  # the plain mean over all batches
        module.train()
    if modules:
        for batch in batches:
            net(batch)
    for module, momentum in zip(modules, momenta, strict=True):
        module.momentum = momentum
        module.eval()
