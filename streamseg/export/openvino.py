"""Builds OpenVINO models of folded nets from their weights alone, without torch.

U-Net and the improved U-Net fold to one form (:mod:`streamseg.nets.fold`): nine stages of two conv3 with
ReLU, max-pooling, nearest up-sampling, merge, and a 1x1 head. Here it ends in a sigmoid, so that an engine
gives probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset1
from openvino import opset13 as ops

from streamseg.errors import EngineError
from streamseg.types import InputSpec

Weights = Mapping[str, npt.NDArray[np.floating]]

LEVELS = 4
"""Poolings from the first encoder stage to the bottom."""


def build_model(weights: Weights, spec: InputSpec) -> ov.Model:
    """The model of a folded U-Net: input ``frame``, output ``probability``, both float32 (1, 1, H, W).

    ``weights``: state of ``fold(net)`` by name, any float type. Raises EngineError where weights are
    missing or do not fit, or the input size is no multiple of 16.
    """
    if spec.height % 2**LEVELS or spec.width % 2**LEVELS:
        good = [-(-side // 2**LEVELS) * 2**LEVELS for side in (spec.height, spec.width)]
        raise EngineError(
            f"input {spec.height}x{spec.width} is no multiple of {2**LEVELS}; use {good[0]}x{good[1]}"
        )
    try:
        return _build(weights, spec)
    except KeyError as error:
        raise EngineError(
            f"weights of a folded U-Net lack {error}; export them again from the checkpoint"
        ) from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(f"weights do not form a folded U-Net ({reason}); export them again") from error


def _build(weights: Weights, spec: InputSpec) -> ov.Model:
    frame = ops.parameter([1, 1, spec.height, spec.width], np.float32, name="frame")
    x: ov.Node = frame
    skips: list[ov.Node] = []
    for level in range(LEVELS):
        x = _stage(x, weights, f"encoder.{level}")
        skips.append(x)
        x = _pool(x)
    x = _stage(x, weights, "bottom")
    for level in range(LEVELS):
        x = ops.concat([_up(x), skips.pop()], axis=1)
        x = _stage(x, weights, f"decoder.{level}")
    probability = ops.sigmoid(_conv(x, weights, "head"))
    probability.output(0).get_tensor().set_names({"probability"})
    probability.set_friendly_name("probability")
    return ov.Model([probability.output(0)], [frame], "folded_unet")


def _stage(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    for layer in range(2):
        x = ops.relu(_conv(x, weights, f"{name}.{layer}.conv"))
    return x


def _conv(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    kernel = np.ascontiguousarray(weights[f"{name}.weight"], np.float32)
    bias = np.ascontiguousarray(weights[f"{name}.bias"], np.float32).reshape(1, -1, 1, 1)
    pad = [kernel.shape[-1] // 2] * 2
    return ops.add(
        ops.convolution(x, ops.constant(kernel), [1, 1], pad, pad, [1, 1], name=name), ops.constant(bias)
    )


def _pool(x: ov.Node) -> ov.Node:
    return opset1.max_pool(x, [2, 2], [0, 0], [0, 0], [2, 2])  # later opsets add an output of indices


def _up(x: ov.Node) -> ov.Node:
    return ops.interpolate(
        x,
        np.array([2.0, 2.0], np.float32),
        mode="nearest",
        shape_calculation_mode="scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=np.array([2, 3], np.int64),
    )
