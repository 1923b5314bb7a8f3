"""Building blocks of the nets. Every convolution has same padding.

:class:`ConvLayer` and :class:`ShortcutLayer` are the paper's (Table 1), whose convolutions have a bias;
:class:`NormedConv` is that of ``lite_unet``'s encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """``conv3-c`` of the paper: 3x3, same padding, with bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ConvLayer(nn.Module):
    """``relu(bn(conv3(x)))``, or ``relu(conv3(x))`` without normalisation."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = conv3(inputs, outputs)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class ShortcutLayer(nn.Module):
    """``relu(bn(conv3(a)) + b * bn(conv1(a)))``: the improved net's second convolution with its shortcut.

    Both branches read the same tensor and are linear up to the ReLU, so that at inference the layer is one
    conv3 (:mod:`streamseg.nets.fold`). ``b`` is the shortcut's factor (paper 3.2: 1).
    """

    def __init__(self, channels: int, *, b: float) -> None:
        super().__init__()
        self.b = b
        self.conv = conv3(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(channels, channels, 1)
        self.shortcut_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)) + self.b * self.shortcut_norm(self.shortcut(x)))


class NormedConv(nn.Module):
    """``relu6(bn(conv(x)))``; ``linear`` leaves the ReLU6 out.

    The convolution has no bias, since the normalisation adds one; without normalisation (``norm`` False, the
    folded form) it has.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=not norm
        )
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01) if norm else nn.Identity()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.linear else F.relu6(x)


class DecoderStage(nn.Sequential):
    """The layers of a U-Net's decoder at one resolution."""

    def __init__(self, below: int, *layers: nn.Module) -> None:
        """``below``: channels of the lower level; the first layer reads these, then the skip's."""
        super().__init__(*layers)
        self.below = below

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        """``below`` (N, C, H, W) is up-sampled and merged with ``skip`` (N, D, 2H, 2W) before the layers."""
        x = merge(up2(below), skip)
        for layer in self:
            x = layer(x)
        return x


class PooledNet(nn.Module, ABC):
    """A net that halves its input several times; it pads any size to a multiple and crops the result.

    ``forward`` takes (N, 1, H, W) and returns logits (N, outputs, H, W); a probability is their sigmoid.
    """

    multiple: int
    """Inputs whose sides are multiples of this need no padding."""
    head_channels: ClassVar[int]
    """Channels that the head reads at width 1."""

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Logits of an input whose sides are multiples of ``multiple``."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        self.check_size(height, width)
        bottom, right = -height % self.multiple, -width % self.multiple
        if bottom == 0 and right == 0:
            return self.logits(x)
        return self.logits(F.pad(x, (0, right, 0, bottom), mode="replicate"))[..., :height, :width]

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError for a size that leaves no pixel at the bottom of the net."""
        if height < self.multiple or width < self.multiple:
            good = (max(height, self.multiple), max(width, self.multiple))
            raise ValueError(
                f"input of {height}x{width} is too small for a net that pools down by {self.multiple}; "
                f"the nearest size that works is {good[0]}x{good[1]}"
            )


def up2(x: Tensor) -> Tensor:
    """Nearest-neighbour up-sampling to twice the height and width; no weights (paper, Table 3)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def merge(up: Tensor, skip: Tensor) -> Tensor:
    """Concatenate the up-sampled features with the matching encoder output, in this order."""
    return torch.cat((up, skip), dim=1)
