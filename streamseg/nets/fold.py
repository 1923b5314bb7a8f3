"""The inference form of a trained net: every BatchNorm, and the improved net's shortcut, folded away.

At inference a BatchNorm is ``y = g * (x - mean) / sqrt(var + eps) + beta``: linear, so it folds into the
convolution before it. A 1x1 convolution is a 3x3 with zeros around its centre, so two parallel linear
branches add up to one 3x3 (structural re-parameterisation as in RepVGG, arXiv:2101.03697).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
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


@torch.no_grad()
def unfold(folded: nn.Module, fresh: Net, batches: Iterable[Tensor]) -> Net:
    """The weights of a folded net in a ``fresh`` one of the same kind, to train on from: the inverse of fold.

    Every BatchNorm gets the mean and variance of what its convolution computes on ``batches`` (N, 1, H, W, in
    the net's units) and the scale and shift that undo them, so that the outputs are those of the folded net,
    and training finds statistics that fit. A shortcut has the scale 0, and grows with training. The fresh
    net's further planes stay as they are. Returns ``fresh``, changed, in eval mode.

    (For measuring speed alone there is :func:`streamseg.nets.inference.unfolded`.)
    """
    measured = {
        name: _Measured(layer.conv)
        for name, layer in folded.eval().named_modules()
        if isinstance(layer, ConvLayer | NormedConv)
    }
    for batch in batches:
        folded(batch)
    for statistics in measured.values():
        statistics.remove()
    own, given = fresh.state_dict(), folded.state_dict()
    for name in given.keys() & own.keys():
        own[name][: len(given[name])] = given[name]
    for name, layer in fresh.named_modules():
        if isinstance(layer, ConvLayer | NormedConv | ShortcutLayer):
            _unfold_layer(layer, given[f"{name}.conv.bias"], measured[name])
    return fresh.eval()


class _Measured:
    """Mean and variance, float64 (C,), of each channel that a convolution computes."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._count = 0
        self._sum = torch.zeros(conv.out_channels, dtype=torch.float64)
        self._squares = torch.zeros(conv.out_channels, dtype=torch.float64)
        self._hook = conv.register_forward_hook(lambda _, __, output: self._add(output))

    def _add(self, output: Tensor) -> None:
        values = output.double()
        self._count += values.numel() // values.shape[1]
        self._sum += values.sum((0, 2, 3))
        self._squares += values.square().sum((0, 2, 3))

    @property
    def mean(self) -> Tensor:
        return self._sum / max(1, self._count)

    @property
    def variance(self) -> Tensor:
        """1 where nothing was measured."""
        if not self._count:
            return torch.ones_like(self._sum)
        return (self._squares / self._count - self.mean.square()).clamp(min=0)

    def remove(self) -> None:
        self._hook.remove()


def _unfold_layer(layer: ConvLayer | NormedConv | ShortcutLayer, bias: Tensor, found: _Measured) -> None:
    norm = layer.norm
    if not isinstance(norm, nn.BatchNorm2d):  # the plain U-Net has none
        return
    _of(norm.running_mean).copy_(found.mean if layer.conv.bias is not None else found.mean - bias.double())
    _of(norm.running_var).copy_(found.variance)
    norm.weight.copy_(torch.sqrt(found.variance + norm.eps))
    norm.bias.copy_(found.mean)
    if isinstance(layer, ShortcutLayer):
        assert isinstance(layer.shortcut_norm, nn.BatchNorm2d)
        layer.shortcut_norm.weight.zero_()
