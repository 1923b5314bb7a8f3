"""Builds OpenVINO models of folded nets from their weights alone, without torch.

U-Net and the improved U-Net fold to one form (:mod:`streamseg.nets.fold`): nine stages of two conv3 with
ReLU, max-pooling, nearest up-sampling, merge, and a 1x1 head. SegNet's is in
:mod:`streamseg.backends.openvino.segnet`, that of ``lite_unet`` in
:mod:`streamseg.backends.openvino.lite_unet`. All end in a sigmoid, so that an engine gives probabilities.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from streamseg.backends.openvino.lite_unet import lite_unet_logits
from streamseg.backends.openvino.ops import Weights, conv_bias, conv_merged, conv_relu, max_pool, name_nodes
from streamseg.backends.openvino.segnet import segnet_logits
from streamseg.core.errors import EngineError
from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import MULTIPLES

LEVELS = 4
"""Poolings of the U-Nets from the first encoder stage to the bottom."""


def build_model(weights: Weights, spec: InputSpec, *, net: str = "improved_unet", batch: int = 1) -> ov.Model:
    """The model of a folded net: input ``frame`` float32 (batch, 1, H, W), output ``probability`` float32
    (batch, structures, H, W), with as many planes as the head has.

    ``weights``: state of ``fold(net)`` by name, any float type. Raises EngineError where weights are
    missing or do not fit, the net is unknown, or the input size is not a multiple of the net's.
    """
    if net not in MULTIPLES:
        raise EngineError(
            f"OpenVINO models are built for {', '.join(MULTIPLES)}, received {net!r}; choose one"
        )
    multiple = MULTIPLES[net]
    if spec.height % multiple or spec.width % multiple:
        good = [-(-side // multiple) * multiple for side in (spec.height, spec.width)]
        raise EngineError(
            f"input {spec.height}x{spec.width} is not a multiple of {multiple}; use {good[0]}x{good[1]}"
        )
    what = {"segnet": "SegNet", "lite_unet": "lite_unet"}.get(net, "U-Net")
    try:
        return _build(weights, [batch, 1, spec.height, spec.width], net)
    except KeyError as error:
        raise EngineError(
            f"weights of a folded {what} lack {error}; export them again from the checkpoint"
        ) from error
    except (RuntimeError, ValueError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise EngineError(f"weights do not form a folded {what} ({reason}); export them again") from error


def mirror_averaged(model: ov.Model) -> ov.Model:
    """A model whose output is the mean of those of the images and of their mirror images, in one batch.

    ``model`` is one of :func:`build_model`, quantised or not, of any batch; it is used up.
    """
    shape = list(model.input().shape)
    model.reshape([2 * shape[0], *shape[1:]])
    frame = ops.parameter(shape, np.float32, name="frame")
    both = ops.concat([frame, _turned(frame)], 0, name="mirror/both")
    model.get_parameters()[0].output(0).replace(both.output(0))
    answers = model.get_results()[0].input(0).get_source_output()
    plain, turned = ops.split(answers, ops.constant(0), 2, name="mirror/answers").outputs()
    total = ops.add(plain, _turned(turned), name="mirror/total")
    mean = ops.multiply(total, np.float32(0.5), name="mirror/mean")
    mean.output(0).get_tensor().set_names({"probability"})
    return ov.Model([mean.output(0)], [frame], f"{model.get_friendly_name()}_mirrored")


def _turned(images: ov.Node | ov.Output) -> ov.Node:
    """Mirror images of (N, C, H, W), left and right exchanged."""
    last, before_first = np.array([-1]), np.array([np.iinfo(np.int64).min])
    return ops.slice(images, last, before_first, last, np.array([3]))


def _build(weights: Weights, shape: list[int], net: str) -> ov.Model:
    frame = ops.parameter(shape, np.float32, name="frame")
    logits = {"segnet": segnet_logits, "lite_unet": lite_unet_logits}.get(net, _unet_logits)
    probability = ops.sigmoid(logits(frame, weights))
    probability.output(0).get_tensor().set_names({"probability"})
    probability.set_friendly_name("probability")
    model = ov.Model([probability.output(0)], [frame], f"folded_{net}")
    name_nodes(model, "net")
    return model


def _unet_logits(x: ov.Node, weights: Weights) -> ov.Node:
    skips: list[ov.Node] = []
    for level in range(LEVELS):
        x = _stage(x, weights, f"encoder.{level}")
        skips.append(x)
        x = max_pool(x)
    x = _stage(x, weights, "bottom")
    for level in range(LEVELS):
        x = conv_merged(x, skips.pop(), weights, f"decoder.{level}.0.conv")
        x = conv_relu(x, weights, f"decoder.{level}.1.conv")
    return conv_bias(x, weights, "head")


def _stage(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    for layer in range(2):
        x = conv_relu(x, weights, f"{name}.{layer}.conv")
    return x
