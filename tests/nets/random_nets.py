"""Nets and checkpoints of random weights for tests; by default an eighth as wide as the paper's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import Checkpoint
from streamseg.nets import PooledNet, build_net, fold

NARROW = 1 / 8
"""Width of nets of which the structure is tested, not the parity of a real one."""
_MISSING = [name for name in ("modelopt", "requests", "huggingface_hub") if find_spec(name) is None]
needs_modelopt = pytest.mark.skipif(
    bool(_MISSING), reason=f"nvidia-modelopt cannot be used without {', '.join(_MISSING)}"
)


@cache
def random_net(name: str, width: float = NARROW, outputs: int = 1) -> PooledNet:
    """A net in eval mode as after training: its BatchNorms have something to fold, its biases show at the
    image's edges, and its logits have a spread of 2. Shared between tests: do not change it."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = build_net(name, width=width, outputs=outputs).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.3, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.3),
            ):
                assert values is not None
                values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    with torch.inference_mode():
        spread = float(net(torch.from_numpy(noise(1, 1, 32, 32))).std())
    net.get_submodule("head").weight.data *= 2 / spread  # type: ignore[operator, union-attr]
    return net


@cache
def folded_weights(name: str, width: float = NARROW, outputs: int = 1) -> dict[str, np.ndarray]:
    """State of the folded net, shared between tests: do not change it."""
    return _state(fold(random_net(name, width, outputs)))


def random_checkpoint(
    net: str,
    size: tuple[int, int] = (32, 64),
    *,
    folded: bool = True,
    width: float = NARROW,
    structures: tuple[str, ...] = ("nerve",),
) -> Checkpoint:
    """A checkpoint of :func:`random_net` for inputs of a size (height, width)."""
    spec = InputSpec(*size, mean=0.25, std=0.25, threshold=0.5, structures=structures)
    return replace(_checkpoint(net, folded, width, len(structures)), spec=spec)


@cache
def _checkpoint(net: str, folded: bool, width: float, outputs: int) -> Checkpoint:
    weights = folded_weights(net, width, outputs) if folded else _state(random_net(net, width, outputs))
    if folded:  # as they are stored
        weights = {name: weight.astype(np.float16).astype(np.float32) for name, weight in weights.items()}
    spec = InputSpec(32, 64, mean=0.25, std=0.25, threshold=0.5)
    return Checkpoint(net, folded, False, spec, weights, "0" * 64)


def _state(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def run_torch(name: str, tensor: np.ndarray, width: float = NARROW) -> np.ndarray:
    """Probability of the unfolded net, eager, same shape as the tensor."""
    with torch.inference_mode():
        return torch.sigmoid(random_net(name, width)(torch.from_numpy(tensor))).numpy()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal random numbers, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def images(count: int = 2) -> list[np.ndarray]:
    """Random images to measure ranges on, uint8 (64, 96)."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 96), dtype=np.uint8) for _ in range(count)]
