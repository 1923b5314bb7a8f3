"""ONNX files: for onnxruntime, for TensorRT's parser, and as a form that outlives versions of torch.

Input ``frame``, (batch, 1, H, W), and output ``probability``, (batch, structures, H, W), are float32 at every
precision, so that every runner feeds the same.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.files import write_whole
from streamseg.core.hardware import versions_of
from streamseg.export.contract import BuildOrder, BuildResult

if TYPE_CHECKING:
    import onnx
    from torch import nn

FILE_NAME = "model.onnx"
INPUT, OUTPUT = "frame", "probability"
OPSET = 17
HALF_QUANTISE_OPSET = 19
"""From here on, quantisation reads and writes float16."""
_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "nvidia-modelopt")


def build(order: BuildOrder, folder: Path) -> BuildResult:
    """Write ``model.onnx``. Raises EngineError for bf16 and for nets that do not fit, and MissingExtra."""
    if order.precision not in ("fp32", "fp16", "int8"):
        raise EngineError(
            f"onnx engines are fp32, fp16 or int8, received {order.precision}: onnxruntime's processor back "
            "end has no bf16 convolutions; build fp16, or bf16 for openvino"
        )
    if order.checkpoint.net == "segnet" and order.precision == "fp16":
        # It runs half in float32 and drops casts: a rounded maximum then equals none of its four pixels.
        raise EngineError(
            "onnxruntime rounds SegNet's half precision differently on both sides of its comparisons, and "
            "loses what it pools; build fp32 or int8, or fp16 for tensorrt"
        )
    _require("torch", "onnx", "onnxscript")
    from streamseg.nets.inference import inference_net

    net: nn.Module = inference_net(order.checkpoint)
    spec, scales = order.checkpoint.spec, {}
    if order.precision == "int8":
        from streamseg.export.builders.modelopt import quantise, ranges

        order.say(f"measuring the ranges of activations on {len(order.images)} images")
        net = quantise(
            inference_net(order.checkpoint), order.images, spec, preset=order.preset, unsigned=True
        )
        scales = ranges(net)
    if order.precision == "fp16":
        order.say("onnxruntime computes fp16 files in fp32 on most processors; for speed, build for openvino")
    order.say("writing the ONNX file")
    export_onnx(
        net,
        (order.batch, 1, spec.height, spec.width),
        folder / FILE_NAME,
        half=order.precision == "fp16",
        metadata={
            "net": order.checkpoint.net,
            "checkpoint_sha256": order.checkpoint.sha256,
            "precision": order.precision,
        },
    )
    used = [name for name in _VERSIONS if order.precision == "int8" or name != "nvidia-modelopt"]
    return BuildResult(versions_of(used), scales)


def export_onnx(
    net: nn.Module,
    shape: tuple[int, int, int, int],
    path: Path,
    *,
    opset: int = OPSET,
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a net (of ``inference_net`` or ``quantise``) as one ONNX file for inputs of one shape.

    ``half`` computes in float16 inside; a quantised net then needs operator set 19. ``metadata`` is written
    to the file beside the input's shape. The same net gives the same bytes, without any local path.
    Raises EngineError if torch cannot express the net at this operator set, and SinkError.
    """
    _require("torch", "onnx", "onnxscript")
    import onnx

    _check_half_pairs(net, opset, half=half)
    try:
        model = _translated(net, shape, opset, half=half)
        _strip(model)
        model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
        values = {**(metadata or {}), "size": f"{shape[2]}x{shape[3]}", "batch": str(shape[0])}
        onnx.helper.set_model_props(model, dict(sorted(values.items())))
        onnx.checker.check_model(model, full_check=True)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise EngineError(
            f"cannot write the net as ONNX at operator set {opset}: {' '.join(str(error).split())[:200]}; "
            "try another operator set, or another version of torch"
        ) from error
    found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if found != [opset]:
        raise EngineError(
            f"torch wrote ONNX operator set {found} instead of {opset}; ask for {found[0]}, or use "
            "another version of torch or onnx"
        )
    write_whole(path, model.SerializeToString(deterministic=True))


def _check_half_pairs(net: nn.Module, opset: int, *, half: bool) -> None:
    from streamseg.export.builders.modelopt import FakeQuantiser

    quantised = any(isinstance(module, FakeQuantiser) for module in net.modules())
    if half and quantised and opset < HALF_QUANTISE_OPSET:
        raise EngineError(
            f"operator set {opset} quantises float32 only; write the net in float32, or ask for operator set "
            f"{HALF_QUANTISE_OPSET}"
        )


def _translated(net: nn.Module, shape: tuple[int, ...], opset: int, *, half: bool) -> onnx.ModelProto:
    import copy

    import torch

    from streamseg.nets.inference import Float16Net

    net = Float16Net(copy.deepcopy(net)) if half else net
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            net.eval(),
            (torch.zeros(shape),),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: source paths, class names, torch's own graph."""
    graph = model.graph
    graph.name = "streamseg"
    del graph.value_info[:]
    del model.metadata_props[:], graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch and onnxscript on operator sets below 18 and on missing packages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _require(*packages: str) -> None:
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise MissingExtra("ONNX export", package, "export") from error
