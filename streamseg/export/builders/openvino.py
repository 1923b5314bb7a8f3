"""Builds OpenVINO engines: ``model.xml`` and ``model.bin``."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from streamseg.backends.openvino.backend import can_compute_in, translated
from streamseg.backends.openvino.graph import build_model, mirror_averaged
from streamseg.core.errors import EngineError
from streamseg.core.hardware import versions_of
from streamseg.export.builders.openvino_int8 import activation_ranges, quantise
from streamseg.export.contract import BuildOrder, BuildResult

HALF = ("fp16", "bf16")


def build(order: BuildOrder, folder: Path) -> BuildResult:
    """Write an engine's files; see :class:`streamseg.export.contract.Builder`.

    fp16 and bf16 store the weights in half precision, and compute in it if the processor can; if it cannot,
    ``order.say`` receives a line. Scales are measured frame by frame at any batch. Raises EngineError and
    MissingExtra.
    """
    checkpoint, spec, precision = order.checkpoint, order.checkpoint.spec, order.precision
    if not checkpoint.folded:
        raise EngineError(f"openvino engines are built from folded weights, {checkpoint!r} is not; fold it")
    packages = ["openvino"]
    with translated(f"build {checkpoint.net} in {precision}"):
        order.say(f"writing the graph of {checkpoint.net} for OpenVINO {versions_of(packages)['openvino']}")
        model = build_model(checkpoint.weights, spec, net=checkpoint.net)
        if precision == "int8":
            packages.append("nncf")
            order.say(f"measuring activations on {len(order.images)} frames")
            model = quantise(model, order.images, spec, preset=order.preset)
        elif precision in HALF and not can_compute_in(precision):
            order.say(
                f"this processor does not compute in {precision}: weights are halved, layers run in fp32"
            )
        scales = activation_ranges(model)
        if order.batch != 1:
            model.reshape([order.batch, 1, spec.height, spec.width])
        if spec.mirrored:
            model = mirror_averaged(model)
        ov.save_model(model, folder / "model.xml", compress_to_fp16=precision in HALF)
    return BuildResult(versions=versions_of(packages), scales=scales)
