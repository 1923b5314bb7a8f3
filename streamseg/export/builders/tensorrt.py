"""TensorRT engines: the whole net as one plan, which TensorRT's own runtime loads.

There are two ways to build a plan, and the manifest's versions say which one was taken. If torch-tensorrt
(2.11 to 2.14) or torch-tensorrt-rtx is installed, its dynamo path converts the exported program; otherwise
the ONNX parser of TensorRT 10, 11 or TensorRT-RTX reads what the ``onnx`` back end would run. Networks are
strongly typed: a plan computes in the net's own types, with half weights and half inputs for fp16.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamseg.backends.tensorrt.backend import PLAN
from streamseg.backends.tensorrt.runtime import (
    PACKAGES,
    PLAIN,
    RTX,
    complaints,
    deserialise,
    find_tensorrt,
    first_of,
    layer_shares,
    logger,
)
from streamseg.core.errors import EngineError, MissingExtra, first_line
from streamseg.core.hardware import versions_of
from streamseg.export.builders.tensorrt_torch import plan_from_torch
from streamseg.export.contract import BuildOrder, BuildResult

if TYPE_CHECKING:
    from torch import nn

TYPES = {"fp32": "float32", "fp16": "float16", "int8": "float16", "bf16": "bfloat16"}
"""torch's name for the type of weights and input, by precision; INT8 leaves half between its convolutions."""
MIN_SHARE = {"fp32": 0.5, "fp16": 0.5, "bf16": 0.5, "int8": 0.25}
"""Share of an engine's layers that must compute in what was asked for; SegNet in INT8 un-pools in half."""
FRONT_ENDS = ("torch-tensorrt", "torch-tensorrt-rtx")


def build(order: BuildOrder, folder: Path, *, device: str = "cuda") -> BuildResult:
    """Write ``model.plan`` for the GPU of this machine.

    Raises EngineError without a GPU, for a net that TensorRT cannot convert, and if the plan computes in
    another precision than asked for; MissingExtra without torch or TensorRT.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("building a TensorRT engine", "torch", "tensorrt") from error
    from streamseg.backends.cuda.runner import usable_device

    usable_device(device, f"{order.checkpoint.net} for tensorrt")
    front = _torch_tensorrt(order)
    trt = _tensorrt() if front is None else find_tensorrt(front.tensorrt_package_name)
    with tempfile.TemporaryDirectory() as scratch:
        net, scales = _net(order)
        if front is None:
            plan = _by_onnx(trt, net, order, Path(scratch))
        else:
            plan = _by_torch_tensorrt(front, net, order, device, Path(scratch))
    _prove(trt, plan, order)
    (folder / PLAN).write_bytes(plan)
    return BuildResult(_versions(trt, front is not None, order.precision), scales)


def _torch_tensorrt(order: BuildOrder) -> Any:
    """torch-tensorrt, or None if it is not installed or does not load."""
    if find_spec("torch_tensorrt") is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("torch_tensorrt")
    except Exception as error:  # it raises bare exceptions if TensorRT's libraries are not found
        order.say(f"torch-tensorrt does not load ({first_line(error)}); trying TensorRT's own ONNX parser")
        return None


def _tensorrt() -> Any:
    for kind in (PLAIN, RTX):
        try:
            return find_tensorrt(kind)
        except MissingExtra:
            continue
    raise MissingExtra("building a TensorRT engine", "torch-tensorrt", "tensorrt")


def _net(order: BuildOrder) -> tuple[nn.Module, Mapping[str, Any]]:
    """The float32 net, for INT8 quantised, and its activations' ranges."""
    from streamseg.nets.inference import inference_net

    net = inference_net(order.checkpoint)
    if order.precision != "int8":
        return net, {}
    from streamseg.export.builders.modelopt import quantise, ranges

    order.say(f"measuring the ranges of activations on {len(order.images)} images")
    quantised = quantise(net, order.images, order.checkpoint.spec, preset=order.preset)
    return quantised, ranges(quantised)


def _by_torch_tensorrt(front: Any, net: nn.Module, order: BuildOrder, device: str, scratch: Path) -> bytes:
    import torch

    kind = getattr(torch, TYPES[order.precision])
    example = torch.zeros(_shape(order), dtype=kind, device=device)
    order.say(f"converting by torch-tensorrt {front.__version__}")
    return plan_from_torch(front, net.to(device=device, dtype=kind), example, order.precision, scratch)


def _by_onnx(trt: Any, net: nn.Module, order: BuildOrder, scratch: Path) -> bytes:
    from streamseg.export.builders.onnx import HALF_QUANTISE_OPSET, OPSET, export_onnx

    if order.precision == "bf16":
        raise EngineError(
            "bf16 needs torch-tensorrt, which is not installed: ONNX is written in fp32, fp16 and int8; "
            "install it with: pip install 'streamseg[tensorrt]'"
        )
    order.say(f"torch-tensorrt is not installed: building from ONNX by TensorRT {trt.__version__}'s parser")
    export_onnx(
        net,
        _shape(order),
        scratch / "model.onnx",
        opset=HALF_QUANTISE_OPSET if order.precision == "int8" else OPSET,
        half=order.precision in ("int8", "fp16"),
    )
    return plan_from_onnx(trt, (scratch / "model.onnx").read_bytes(), order.precision)


def plan_from_onnx(trt: Any, model: bytes, precision: str, *, capability: str | None = None) -> bytes:
    """Build a plan of an ONNX model.

    ``capability``: TensorRT-RTX builds for another GPU than this machine's, such as ``SM89``, and needs none.
    Raises EngineError for operators that the parser does not know, if building fails, and for TensorRT older
    than 10.
    """
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise EngineError(f"TensorRT {trt.__version__} is too old; install TensorRT 10 or later")
    with complaints(trt) as heard:
        try:
            return _plan(trt, model, precision, capability, heard)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise _failed(trt, first_of(heard, error)) from error


def _plan(trt: Any, model: bytes, precision: str, capability: str | None, heard: Any) -> bytes:
    builder = trt.Builder(logger(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse(model):
        raise _failed(trt, "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))[:200])
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(trt, first_of(heard))
    return bytes(plan)


def _failed(trt: Any, reason: str) -> EngineError:
    return EngineError(
        f"TensorRT {trt.__version__} cannot build this net from ONNX ({reason}); try another precision, "
        "or --backend compiled"
    )


def _shape(order: BuildOrder) -> tuple[int, int, int, int]:
    spec = order.checkpoint.spec
    return order.batch, 1, spec.height, spec.width


def _prove(trt: Any, plan: bytes, order: BuildOrder) -> None:
    """Raise EngineError if the plan does not load, or computes in another precision than asked for."""
    found = layer_shares(trt, deserialise(trt, plan, order.checkpoint.net).engine)
    if found == {"other": 1.0}:
        order.say("the engine does not report what its layers compute in: the types of its weights decide")
    elif found.get(order.precision, 0.0) < MIN_SHARE[order.precision]:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in found.items())
        raise EngineError(
            f"TensorRT {trt.__version__} built {order.checkpoint.net} in {order.precision} to compute "
            f"in {shares}; ask for another precision"
        )


def _versions(trt: Any, converted: bool, precision: str) -> dict[str, str]:
    kind = RTX if "rtx" in trt.__name__ or getattr(trt, "_package_name", "") == RTX else PLAIN
    front = FRONT_ENDS if converted else ("onnx",)
    calibrated = ("nvidia-modelopt",) if precision == "int8" else ()
    return versions_of(("torch", *PACKAGES[kind], *front, *calibrated))
