"""``lite_unet``'s folded graph for OpenVINO (:mod:`streamseg.nets.lite_unet`)."""

from __future__ import annotations

from itertools import count

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from streamseg.backends.openvino.ops import Weights, add_bias, array, conv, conv_bias, conv_merged, conv_relu

STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of the first block of each encoder stage."""
SKIPS = (0, 1, 2, 4)
"""Encoder stages whose output the decoder reads."""


def lite_unet_logits(x: ov.Node, weights: Weights) -> ov.Node:
    """From the frame (N, 1, H, W), H and W multiples of 32, to the logits, one channel per output."""
    x = _normed(x, weights, "stem", stride=2)
    skips: list[ov.Node] = []
    for stage, stride in enumerate(STRIDES):
        for block in range(_count(weights, f"encoder.{stage}")):
            x = _block(x, weights, f"encoder.{stage}.{block}.layers", 1 if block else stride)
        if stage in SKIPS:
            skips.append(x)
    for stage in range(len(SKIPS)):
        x = conv_merged(x, skips.pop(), weights, f"decoder.{stage}.0.conv")
        x = conv_relu(x, weights, f"decoder.{stage}.1.conv")
    return ops.interpolate(
        conv_bias(x, weights, "head"),
        np.array([2, 2], np.float32),
        "linear_onnx",
        "scales",
        coordinate_transformation_mode="half_pixel",
        axes=np.array([2, 3]),
    )


def _block(x: ov.Node, weights: Weights, name: str, stride: int) -> ov.Node:
    """An inverted residual: expansion (except in the first stage), depthwise convolution, projection."""
    last = _count(weights, name) - 1
    y = x
    for layer in range(last + 1):
        depthwise = layer == last - 1
        y = _normed(y, weights, f"{name}.{layer}", stride=stride if depthwise else 1, linear=layer == last)
    same = stride == 1 and x.get_output_shape(0)[1] == y.get_output_shape(0)[1]
    return ops.add(x, y, name=f"{name}.sum") if same else y


def _normed(x: ov.Node, weights: Weights, name: str, *, stride: int = 1, linear: bool = False) -> ov.Node:
    name = f"{name}.conv"
    made = conv(x, array(weights, f"{name}.weight"), name, stride=stride)
    y = add_bias(made, array(weights, f"{name}.bias"), name)
    return y if linear else ops.clamp(y, 0, 6, name=f"{name}.relu6")


def _count(weights: Weights, name: str) -> int:
    """How many parts named by number, at least one, a module has."""
    names = tuple(weights)
    return next(n for n in count(1) if not any(other.startswith(f"{name}.{n}.") for other in names))
