"""The inference form of a trained net: every BatchNorm, and the improved net's shortcut, folded away.

At inference a BatchNorm is ``y = g * (x - mean) / sqrt(var + eps) + beta``: linear, so it folds into the
convolution before it. A 1x1 convolution is a 3x3 with zeros around its centre, so two parallel linear
branches add up to one 3x3 (structural re-parameterisation as in RepVGG, arXiv:2101.03697).
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.nets.blocks import ConvLayer, NormedConv, ShortcutLayer

Net = TypeVar("Net", bound=nn.Module)


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a convolution with the normalisation after it folded in."""
    weight = conv.weight.double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.double()
    if isinstance(norm, nn.Identity):
        return weight, bias
    assert isinstance(norm, nn.BatchNorm2d)
    gain = norm.weight.double() / torch.sqrt(_of(norm.running_var).double() + norm.eps)
    shift = norm.bias.double() - _of(norm.running_mean).double() * gain
    return weight * gain[:, None, None, None], bias * gain + shift


def _of(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _fold_layer(layer: ConvLayer | NormedConv | ShortcutLayer) -> ConvLayer | NormedConv:
    conv = layer.conv
    weight, bias = _folded(conv, layer.norm)
    folded: ConvLayer | NormedConv
    if isinstance(layer, NormedConv):
        folded = NormedConv(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size[0],
            stride=conv.stride[0],
            groups=conv.groups,
            linear=layer.linear,
            norm=False,
        )
    else:
        folded = ConvLayer(conv.in_channels, conv.out_channels, norm=False)
    if isinstance(layer, ShortcutLayer):
        centre, extra = _folded(layer.shortcut, layer.shortcut_norm)
        weight = weight + layer.b * F.pad(centre, (1, 1, 1, 1))
        bias = bias + layer.b * extra
    folded = folded.to(conv.weight.device, conv.weight.dtype)
    folded.conv.weight.copy_(weight)
    _of(folded.conv.bias).copy_(bias)
    return folded


@torch.no_grad()
def fold(net: Net) -> Net:
    """A copy of a net in its inference form: eval mode, no BatchNorm, no shortcut, same outputs.

    Exact up to rounding. Sums are computed in float64 and stored in the net's own type. Folding a folded net
    gives an equal one.
    """
    folded = copy.deepcopy(net).eval()
    for module in list(folded.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, ConvLayer | NormedConv | ShortcutLayer):
                setattr(module, name, _fold_layer(layer))
    return folded.eval().requires_grad_(False)
