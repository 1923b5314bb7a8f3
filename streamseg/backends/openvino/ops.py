"""The layers of OpenVINO models of our nets, made from arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset1
from openvino import opset13 as ops

Array = npt.NDArray[np.float32]
Weights = Mapping[str, npt.NDArray[np.floating]]
"""Arrays by state-dict name, any float type."""

_SPREAD = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float64)
"""Along one axis: the four taps of the transposed convolution (rows) as sums of a conv3's three (columns)."""


def array(weights: Weights, name: str) -> Array:
    """A weight as contiguous float32. Raises KeyError if it is missing."""
    return np.ascontiguousarray(weights[name], np.float32)


def add_bias(x: ov.Node, bias: Array, name: str) -> ov.Node:
    """Add one number per channel."""
    return ops.add(x, ops.constant(bias.reshape(1, -1, 1, 1)), name=f"{name}.bias")


def conv(x: ov.Node, kernel: Array, name: str, *, stride: int = 1) -> ov.Node:
    """Convolution (O, I, k, k) with same padding and without bias; the node is called ``name``.

    A kernel (O, 1, k, k) on several channels filters each of them by itself (a depthwise convolution).
    """
    pad, strides = [kernel.shape[-1] // 2] * 2, [stride, stride]
    channels = x.get_output_shape(0)[1]
    if kernel.shape[1] == 1 < channels == len(kernel):
        grouped = ops.constant(kernel[:, None])
        return ops.group_convolution(x, grouped, strides, pad, pad, [1, 1], name=name)
    return ops.convolution(x, ops.constant(kernel), strides, pad, pad, [1, 1], name=name)


def conv_bias(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    """The convolution ``name`` of a state dict."""
    return add_bias(conv(x, array(weights, f"{name}.weight"), name), array(weights, f"{name}.bias"), name)


def conv_relu(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    """``relu(conv(x))``, the only kind of layer in a folded net."""
    return ops.relu(conv_bias(x, weights, name), name=f"{name}.relu")


def max_pool(x: ov.Node) -> ov.Node:
    """2x2 max-pooling."""
    return opset1.max_pool(x, [2, 2], [0, 0], [0, 0], [2, 2])  # later opsets add an output of indices


def spread_kernel(kernel: Array) -> Array:
    """The kernel (I, O, 4, 4) of a transposed convolution, stride 2, padding 1, that equals nearest
    up-sampling by two followed by the conv3 ``kernel`` (O, I, 3, 3).

    Those of the conv3's nine taps that read copies of the same pixel are added up beforehand, so that each
    output needs four products instead of nine. Exact up to rounding, at the borders too.
    """
    spread = np.einsum("ar,bs,oirs->ioab", _SPREAD, _SPREAD, kernel.astype(np.float64))
    return np.ascontiguousarray(spread, np.float32)


def conv_up(x: ov.Node, kernel: Array, name: str) -> ov.Node:
    """``conv3(up2(x))`` with 4/9 of its arithmetic; ``kernel`` is the conv3's, (O, I, 3, 3)."""
    return ops.convolution_backprop_data(
        x,
        ops.constant(spread_kernel(kernel)),
        [2, 2],
        pads_begin=[1, 1],
        pads_end=[1, 1],
        dilations=[1, 1],
        name=name,
    )


def conv_merged(below: ov.Node, skip: ov.Node, weights: Weights, name: str) -> ov.Node:
    """``relu(conv3(concat(up2(below), skip)))`` as the sum of two convolutions: neither input is copied, and
    the branch from below takes 4/9 of the arithmetic."""
    kernel = array(weights, f"{name}.weight")
    channels = below.get_output_shape(0)[1]
    skipped = conv(skip, np.ascontiguousarray(kernel[:, channels:]), f"{name}.skip")
    beside = add_bias(skipped, array(weights, f"{name}.bias"), f"{name}.skip")
    both = ops.add(beside, conv_up(below, kernel[:, :channels], f"{name}.up"), name=f"{name}.sum")
    return ops.relu(both, name=f"{name}.relu")


def name_nodes(model: ov.Model, prefix: str) -> None:
    """Give unnamed nodes a name that depends on the model alone.

    OpenVINO numbers them through the life of the process, and the numbers would end up in the file.
    ``prefix`` separates the names of one pass from those of another.
    """
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{prefix}.{node.get_type_name().lower()}.{index}")
