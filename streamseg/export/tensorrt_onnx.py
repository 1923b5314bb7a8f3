"""A TensorRT plan from an ONNX file, by its own parser: for 8.6, and where torch-tensorrt is missing."""

from __future__ import annotations

from typing import Any

from streamseg.backends.tensorrt.runtime import complaints, first_of, logger
from streamseg.core.errors import EngineError

WEAK_FLAGS = {"fp16": ("FP16",), "int8": ("FP16", "INT8"), "bf16": ("BF16",)}
"""What 8.6 is allowed to compute in; from 10 on the graph's own types decide."""


def strongly_typed(trt: Any) -> bool:
    """Whether this TensorRT computes in a graph's own types: all but 8.6 and before."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def plan_from_onnx(trt: Any, model: bytes, precision: str, *, capability: str | None = None) -> bytes:
    """Build a plan of an ONNX model.

    ``capability``: TensorRT-RTX builds for another GPU than this machine's, such as ``SM89``, and needs none.
    Raises EngineError for operators that the parser does not know, and where building fails.
    """
    with complaints(trt) as heard:
        try:
            return _plan(trt, model, precision, capability, heard)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise _failed(trt, first_of(heard, error)) from error


def _plan(trt: Any, model: bytes, precision: str, capability: str | None, heard: Any) -> bytes:
    builder = trt.Builder(logger(trt))
    flags, typed = trt.NetworkDefinitionCreationFlag, strongly_typed(trt)
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED if typed else flags.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse(model):
        raise _failed(trt, "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))[:200])
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if not typed:
        for flag in WEAK_FLAGS.get(precision, ()):
            config.set_flag(getattr(trt.BuilderFlag, flag))
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
