"""Checkpoints of random weights for tests."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import Checkpoint
from streamseg.nets import build_net, fold


def random_checkpoint(net: str, height: int = 32, width: int = 64, *, folded: bool = True) -> Checkpoint:
    """A net whose signal keeps its size to the end, and whose biases show at the picture's edges."""
    spec = InputSpec(height, width, mean=0.25, std=0.25, threshold=0.5)
    return replace(_checkpoint(net, folded), spec=spec)


@lru_cache(maxsize=4)
def _checkpoint(net: str, folded: bool) -> Checkpoint:
    torch.manual_seed(0)
    built = build_net(net).eval()
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.normal_(module.weight, std=float(np.sqrt(2 / module.weight[0].numel())))
                torch.nn.init.normal_(module.bias, std=0.3)
    state = {k: v.numpy() for k, v in (fold(built) if folded else built).state_dict().items()}
    if folded:  # as they are stored
        state = {name: weight.astype(np.float16).astype(np.float32) for name, weight in state.items()}
    spec = InputSpec(32, 64, mean=0.25, std=0.25, threshold=0.5)
    return Checkpoint(net, folded, False, spec, state, "0" * 64)
