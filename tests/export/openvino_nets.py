"""Random folded nets whose BatchNorms have something to fold."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from streamseg.nets import build_net, fold


@cache
def seasoned(name: str, seed: int = 1) -> nn.Module:
    """A net in eval mode with random statistics and gains, as after training, and logits of spread 2."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = build_net(name).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.3),
            ):
                values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    with torch.inference_mode():
        spread = float(net(torch.from_numpy(noise(1, 1, 32, 32))).std())
    net.head.weight.data *= 2 / spread
    return net


@cache
def folded_weights(name: str) -> dict[str, np.ndarray]:
    """State of the folded net, shared between tests: do not change it."""
    return {key: tensor.numpy() for key, tensor in fold(seasoned(name)).state_dict().items()}


@cache
def narrow_weights(name: str) -> dict[str, np.ndarray]:
    """The same with an eighth of the channels, for tests of what takes its time: do not change it."""
    cut = {}
    for key, array in folded_weights(name).items():
        parts = [slice(None) if side == 1 else slice(0, side // 8) for side in array.shape[:2]]
        cut[key] = np.ascontiguousarray(array[tuple(parts)] * (1 if key.endswith("bias") else 2.5))
    return cut


def run_torch(name: str, tensor: np.ndarray) -> np.ndarray:
    """Probability of the unfolded net, eager, same shape as the tensor."""
    with torch.inference_mode():
        return torch.sigmoid(seasoned(name)(torch.from_numpy(tensor))).numpy()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
