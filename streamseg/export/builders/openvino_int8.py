"""INT8 for OpenVINO by post-training quantisation (NNCF), repeatable from its images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from streamseg.backends.openvino.ops import name_nodes
from streamseg.backends.openvino.segnet import COMPARISONS
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import Grey, InputSpec, Tensor
from streamseg.segmentation.preprocess import to_tensor

DEPTHWISE = "GroupConvolution"


def quantise(model: ov.Model, images: Sequence[Grey], spec: InputSpec, *, preset: str) -> ov.Model:
    """An INT8 model of an FP32 one of batch 1; activation ranges are measured on ``images`` (uint8 (H, W)).

    The input is rounded to its own grey levels. All weights use 8 bits: processors without instructions for
    8-bit dot products (VNNI) add pairs of products in 16 bits, which may overflow in the first layer, but 7
    bits cost more accuracy than that (docs/log.md). SegNet's comparisons stay in float, and so do depthwise
    convolutions: one range for all of their channels costs accuracy, and their INT8 saves no time.

    Deterministic: the same model, images and preset give the same model, names included. Raises MissingExtra
    without NNCF, EngineError without images.
    """
    try:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    except ImportError as error:
        raise MissingExtra("INT8 quantisation", "nncf", "export") from error
    if not images:
        raise EngineError(
            "INT8 needs images to measure activations on, received none; give a recipe's frames"
        )
    logging.getLogger("nncf").setLevel(logging.WARNING)
    tensors: list[Tensor] = [to_tensor(image, spec) for image in images]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(tensors),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(tensors),
        fast_bias_correction=True,
        ignored_scope=nncf.IgnoredScope(types=[*COMPARISONS, DEPTHWISE], validate=False),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.DISABLE),
    )
    assert isinstance(quantised, ov.Model)
    _round_to_grey_levels(quantised, spec)
    _round_at_once(quantised)
    name_nodes(quantised, "int8")
    return quantised


def activation_ranges(model: ov.Model) -> dict[str, dict[str, Any]]:
    """The ranges of a quantised model's activations by layer, in the order of execution.

    ``low`` and ``high`` are the ends of the range in the layer's units (lists if they differ by channel),
    ``levels`` the number of values in it.
    """
    return {
        node.get_friendly_name(): {
            "low": _numbers(node, 1),
            "high": _numbers(node, 2),
            "levels": int(node.get_attributes()["levels"]),
        }
        for node in model.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize" and _source(node, 0).get_type_name() != "Constant"
    }


def _round_to_grey_levels(model: ov.Model, spec: InputSpec) -> None:
    """Round the input to its 256 grey levels instead of the 256 levels of NNCF's measured range.

    The net's zero, with which borders are padded, has to be a level too: the nearest one is set to it, which
    shifts all levels by less than half a step.
    """
    zero = min(255, max(0, round(255 * spec.mean)))
    low, high = (ops.constant(np.float32((grey - zero) / 255 / spec.std)) for grey in (0, 255))
    for reader in model.input().get_target_inputs():
        if _is(reader, "FakeQuantize"):
            for port, limit in enumerate((low, high, low, high), start=1):
                reader.get_node().input(port).replace_source_output(limit.output(0))
    model.validate_nodes_and_infer_types()


def _round_at_once(model: ov.Model) -> None:
    """Round SegNet's features before they are pooled, so that they are stored in 8 bits from there on.

    NNCF rounds the input of a pooling and the output of an un-pooling, while the comparisons beside them read
    floats. Rounding first changes none of the values passed on, and comparisons see the values that the
    pooling sees.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Relu":
            readers = list(node.output(0).get_target_inputs())
            rounded = [reader.get_node() for reader in readers if _is(reader, "FakeQuantize")]
            if not rounded and any(_is(reader, "Select") for reader in readers):
                rounded = _copy_after(node, readers[0].get_node())
            for reader in readers if rounded else ():
                if not _is(reader, "FakeQuantize"):
                    reader.replace_source_output(rounded[0].output(0))
    model.validate_nodes_and_infer_types()


def _copy_after(node: ov.Node, select: ov.Node) -> list[ov.Node]:
    """A copy, for ``node``, of the rounding after ``select``; empty if there is none."""
    for reader in select.output(0).get_target_inputs():
        if _is(reader, "FakeQuantize"):
            rounding = reader.get_node()
            limits = [ops.constant(_source(rounding, port).data) for port in range(1, 5)]
            name = f"{node.get_friendly_name()}/rounded"
            return [ops.fake_quantize(node, *limits, rounding.get_attributes()["levels"], name=name)]
    return []


def _is(reader: ov.Input, kind: str) -> bool:
    return bool(reader.get_node().get_type_name() == kind)


def _source(node: ov.Node, port: int) -> Any:
    return node.input(port).get_source_output().get_node()


def _numbers(node: ov.Node, port: int) -> float | list[float]:
    values = [float(value) for value in np.ravel(_source(node, port).data)]
    return values[0] if len(values) == 1 else values
