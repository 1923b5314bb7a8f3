"""SegNet's folded graph for OpenVINO: un-pooling by comparisons, laid out for a processor.

The memory of a pooling is one number per pooled pixel, 0 to 3, the place of the (first) maximum. The
processor works with channels innermost, so un-pooling makes four masked copies one after the other along the
channels and moves whole runs of channels to their places, instead of interleaving single values.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from streamseg.backends.openvino.ops import Weights, array, conv_bias, conv_relu, max_pool

LAYERS = (2, 2, 3, 3, 3)
"""Layers of the encoder's stages; the decoder's in reverse order."""
COMPARISONS = ("Equal", "GreaterEqual", "Maximum", "Select")
"""Types of the operations of pooling memory and un-pooling, besides copies. They stay in float, because a
quantised memory of 2 might no longer equal 2."""


def segnet_logits(x: ov.Node, weights: Weights) -> ov.Node:
    """SegNet from the frame (N, 1, H, W), H and W multiples of 32, to the logits (N, structures, H, W)."""
    weights = _regrouped(weights)
    memories: list[ov.Node] = []
    for stage, layers in enumerate(LAYERS):
        x = _stage(x, weights, f"encoder.{stage}", layers)
        memories.append(pooling_memory(x))
        x = max_pool(x)
    for stage, layers in enumerate(reversed(LAYERS)):
        x = _stage(unpool(x, memories.pop()), weights, f"decoder.{stage}", layers)
    return conv_bias(x, weights, "head")


def pooling_memory(x: ov.Node) -> ov.Node:
    """The place of the maximum of each 2x2 pixels of ``x`` (N, C, H, W): (N, C, H/2, W/2).

    0 is top left, 1 top right, 2 bottom left, 3 bottom right. The first one wins a tie, as in
    ``max_pool2d(return_indices=True)``.
    """
    a, b, c, d = (_every_second(x, row, column) for row in (0, 1) for column in (0, 1))
    later = ops.maximum(c, d)
    third = ops.select(ops.greater_equal(c, d), _number(2), _number(3))
    second = ops.select(ops.greater_equal(b, later), _number(1), third)
    return ops.select(ops.greater_equal(a, ops.maximum(b, later)), _number(0), second)


def unpool(x: ov.Node, memory: ov.Node) -> ov.Node:
    """Put features (N, K*C, H, W) where the maxima were, zeros elsewhere: (N, K*C, 2H, 2W).

    ``memory`` (N, C, H, W) is from :func:`pooling_memory`; each of K runs of C channels of ``x`` uses it
    once.
    """
    runs = x.get_output_shape(0)[1] // memory.get_output_shape(0)[1]
    if runs > 1:
        memory = ops.concat([memory] * runs, axis=1)
    placed = [ops.select(ops.equal(memory, _number(place)), x, _number(0)) for place in range(4)]
    return ops.depth_to_space(ops.concat(placed, axis=1), "blocks_first", 2)


def _stage(x: ov.Node, weights: Weights, name: str, layers: int) -> ov.Node:
    for layer in range(layers):
        x = conv_relu(x, weights, f"{name}.{layer}.conv")
    return x


def _regrouped(weights: Weights) -> Weights:
    """The weights with the un-pooled channels in another order; the net's outputs stay the same.

    Channels that share a memory plane are neighbours in the net. Here they lie as many channels apart as
    there are planes, so that the memory is repeated as a whole.
    """
    changed = dict(weights)
    for stage in range(1, len(LAYERS)):
        level = len(LAYERS) - 1 - stage
        reader, writer = f"decoder.{stage}.0.conv", f"decoder.{stage - 1}.{LAYERS[level + 1] - 1}.conv"
        planes = len(array(weights, f"encoder.{level}.{LAYERS[level] - 1}.conv.bias"))
        channels = len(array(weights, f"{writer}.bias"))
        order = np.arange(channels).reshape(planes, -1).T.ravel()
        changed[f"{writer}.weight"] = changed[f"{writer}.weight"][order]
        changed[f"{writer}.bias"] = changed[f"{writer}.bias"][order]
        changed[f"{reader}.weight"] = changed[f"{reader}.weight"][:, order]
    return changed


def _every_second(x: ov.Node, row: int, column: int) -> ov.Node:
    height, width = x.get_output_shape(0)[2:]
    return ops.slice(x, [row, column], [height, width], [2, 2], [2, 3])


def _number(value: float) -> ov.Node:
    return ops.constant(np.float32(value))
