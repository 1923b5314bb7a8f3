"""TensorRT's Python runtime as far as it is used: the calls that 10, 11 and TensorRT-RTX have in common.

Every function takes the module itself (``trt``), so that any of them, or a stand-in, can be used.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from streamseg.core.errors import EngineError, MissingExtra, first_line

RTX, PLAIN = "tensorrt_rtx", "tensorrt"
MODULES = {PLAIN: ("tensorrt", "tensorrt_bindings"), RTX: ("tensorrt_rtx",)}
"""Modules of each kind of TensorRT; one kind cannot read plans of the other."""
PACKAGES = {
    PLAIN: ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-bindings"),
    RTX: ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
"""Packages whose version decides whether a plan can be read; not all of them are installed."""
TORCH_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
"""torch's names of the types that a plan's input and output may have."""
KINDS = (
    ("int8", r"u?int8"),
    ("other", r"fp8|float8|fp4|float4|int4"),
    ("bf16", r"bf16|bfloat"),
    ("fp16", r"fp16|half|float16"),
    ("fp32", r"fp32|float"),
)
"""Patterns of types in the engine inspector's descriptions; the first that occurs counts."""
WIDEST = ("fp32", "bf16", "fp16", "int8", "other")
MOVES = ("reformat", "noop", "no-op", "constant", "shuffle", "signal", "wait", "identity", "copy")
"""Types of layers that compute nothing."""


@dataclass(frozen=True, slots=True)
class Port:
    """A plan's input or output."""

    name: str
    shape: tuple[int, ...]
    type: str
    """TensorRT's name: FLOAT, HALF, BF16, INT8, ..."""

    def __str__(self) -> str:
        return f"{self.type} {self.shape}"


@dataclass(slots=True)
class Loaded:
    """A deserialised plan. The runtime has to live as long as its engine."""

    runtime: Any
    engine: Any


def kind_of(versions: Mapping[str, str]) -> str:
    """The kind of TensorRT that built an engine with these versions: PLAIN or RTX."""
    return RTX if any("tensorrt-rtx" in name for name in versions) else PLAIN


def find_tensorrt(kind: str) -> Any:
    """The module of this kind of TensorRT.

    Raises MissingExtra if it is not installed, EngineError if it is but does not load.
    """
    for name in MODULES[kind]:
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in MODULES[kind]:
                raise _broken(name, error) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _broken(name, error) from error
        else:
            # torch-tensorrt-rtx installs its own under the plain one's name; PyPI also has empty stubs.
            alias = kind == PLAIN and getattr(module, "_package_name", "") == RTX
            if hasattr(module, "Runtime") and not alias:
                return module
    raise MissingExtra("a TensorRT engine", MODULES[kind][0].replace("_", "-"), "tensorrt")


def _broken(name: str, error: BaseException) -> EngineError:
    return EngineError(
        f"{name} is installed but does not load ({first_line(error)}); "
        "check NVIDIA's driver with nvidia-smi, or install it again"
    )


@lru_cache(maxsize=4)
def logger(trt: Any) -> Any:
    """The process's logger, since TensorRT uses the first that it gets: prints nothing, collects errors."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.complaints: deque[str] = deque(maxlen=16)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.complaints.append(message)

    return Log()


@contextmanager
def complaints(trt: Any) -> Iterator[deque[str]]:
    """Collect TensorRT's errors in the block, the cause first."""
    found: deque[str] = logger(trt).complaints
    found.clear()
    yield found


def deserialise(trt: Any, plan: bytes, name: str) -> Loaded:
    """Make an engine from a plan. Raises EngineError with TensorRT's own error, if it logged one."""
    with complaints(trt) as heard:
        try:
            runtime = trt.Runtime(logger(trt))
            engine = runtime.deserialize_cuda_engine(plan)
        except (RuntimeError, TypeError, ValueError) as error:
            raise _unreadable(trt, name, heard, error) from error
    if engine is None:
        raise _unreadable(trt, name, heard, None)
    return Loaded(runtime, engine)


def _unreadable(trt: Any, name: str, heard: Sequence[str], error: BaseException | None) -> EngineError:
    reason = first_of(heard, error)
    return EngineError(
        f"TensorRT {trt.__version__} cannot load engine {name} on this GPU ({reason}); "
        "it was built for another GPU or version: export it again here"
    )


def ports_of(trt: Any, engine: Any, name: str) -> tuple[Port, Port]:
    """The engine's input and output. Raises EngineError unless there is exactly one of each."""
    inputs: list[Port] = []
    outputs: list[Port] = []
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        port = Port(
            tensor, tuple(engine.get_tensor_shape(tensor)), str(engine.get_tensor_dtype(tensor).name).upper()
        )
        incoming = engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT
        (inputs if incoming else outputs).append(port)
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(
            f"engine {name} has {len(inputs)} inputs and {len(outputs)} outputs, a net has one of each; "
            "export it again"
        )
    return inputs[0], outputs[0]


def layer_shares(trt: Any, engine: Any) -> dict[str, float]:
    """Share of an engine's layers, 0..1, by the type that they compute in, from its inspector.

    ``{"other": 1.0}`` if the engine does not say, as when it was built without detailed profiling.
    """
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return shares_of(str(text))


def shares_of(information: str) -> dict[str, float]:
    """The shares from the inspector's JSON. Layers that only move numbers do not count."""
    try:
        found = json.loads(information)
        layers = found.get("Layers", []) if isinstance(found, dict) else []
    except ValueError:
        layers = []
    described = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    working = [
        layer for layer in described if not any(m in str(layer.get("LayerType", "")).lower() for m in MOVES)
    ]
    counts = Counter(_layer_type(layer) for layer in working)
    total = sum(counts.values())
    return {kind: counts[kind] / total for kind in WIDEST if counts[kind]} if total else {"other": 1.0}


def _layer_type(layer: Mapping[str, Any]) -> str:
    """The widest type among a layer's inputs; for a layer with weights, among these and the first input.

    A fused residual may be wider than what the convolution computes in, so only the first input counts there.
    """
    inputs = layer.get("Inputs")
    kinds = [_kind(tensor) for tensor in inputs] if isinstance(inputs, list) else []
    weights = _kind(layer.get("Weights"))
    if weights is not None:
        kinds = [*kinds[:1], weights]
    return next((kind for kind in WIDEST if kind in kinds), "other")


def _kind(tensor: object) -> str | None:
    """Type of a described tensor's numbers; None for integers, booleans and unknown types."""
    if not isinstance(tensor, dict):
        return None
    words = " ".join(str(v) for k, v in tensor.items() if re.search("format|type", str(k), re.IGNORECASE))
    return next((kind for kind, pattern in KINDS if re.search(pattern, words, re.IGNORECASE)), None)


def first_of(heard: Sequence[str], error: BaseException | None = None) -> str:
    """The first logged error, which the others follow from, or else the exception's first line."""
    return first_line(heard[0]) if heard else "no reason given" if error is None else first_line(error)
