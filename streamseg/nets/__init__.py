"""The three nets of the paper, and ``lite_unet``. Needs torch (extra ``train``).

``build_net(name)`` makes one, ``count_parameters`` counts like the paper's Table 3, ``fold`` makes the
inference form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamseg.core.errors import MissingExtra, UsageError

try:
    from torch import nn
except ImportError as error:
    raise MissingExtra("a net in PyTorch", "torch", "train") from error

from streamseg.nets.blocks import PooledNet
from streamseg.nets.fold import fold, unfold
from streamseg.nets.lite_unet import LiteUNet
from streamseg.nets.segnet import SegNet
from streamseg.nets.unet import ImprovedUNet, UNet

__all__ = [
    "NETS",
    "ImprovedUNet",
    "LiteUNet",
    "PooledNet",
    "SegNet",
    "UNet",
    "build_net",
    "count_parameters",
    "fold",
    "unfold",
    "width_of",
]

NETS: dict[str, type[PooledNet]] = {
    "unet": UNet,
    "segnet": SegNet,
    "improved_unet": ImprovedUNet,
    "lite_unet": LiteUNet,
}


def build_net(name: str, **options: Any) -> PooledNet:
    """A fresh net by name.

    Options: ``outputs`` (channels of the head), ``width`` (factor on the channels of all layers; 1 is the
    paper's), ``b`` (factor of improved_unet's shortcuts). Raises UsageError for an unknown name.
    """
    try:
        make = NETS[name]
    except KeyError:
        raise UsageError(f"no net is called {name!r}; choose one of {', '.join(NETS)}") from None
    return make(**options)


def width_of(name: str, weights: Mapping[str, Any]) -> float:
    """The ``width`` of the net that weights (arrays by state-dict name) belong to; 1 if they do not say."""
    head = weights.get("head.weight")
    return 1.0 if head is None or name not in NETS else float(head.shape[1] / NETS[name].head_channels)


def count_parameters(net: nn.Module) -> int:
    """Number of parameters as in the paper's Table 3: trainable ones plus BatchNorm's running statistics."""
    statistics = (b for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in net.parameters()) + sum(b.numel() for b in statistics)
