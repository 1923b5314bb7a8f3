"""Builds a TensorRT plan from a torch net, by torch-tensorrt 2.11 to 2.14 or torch-tensorrt-rtx.

The versions differ: 2.11 and 2.12 (TensorRT 10) have ``use_explicit_typing``, and 2.11 swallows failures;
from 2.13 on (TensorRT 11) every network is typed by its weights and inputs, and ``enabled_precisions`` is
silently ignored, as any unknown setting is.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from streamseg.core.errors import EngineError, first_line

if TYPE_CHECKING:
    import torch

OPTIMIZATION_LEVEL = 3
"""TensorRT's default; 4 and 5 search much longer."""
LOGS = ("torch_tensorrt", "torch_tensorrt [TensorRT Conversion Context]")
"""Names of torch-tensorrt's logger, and of the one that it gives to TensorRT."""


def plan_from_torch(
    front: Any, net: torch.nn.Module, example: torch.Tensor, precision: str, scratch: Path
) -> bytes:
    """A plan of a net for inputs like ``example``, by torch-tensorrt (``front``).

    The conversion turns one graph into one network, so that there is one engine or none. ``scratch`` is a
    folder for TensorRT's timings. Raises EngineError.
    """
    import torch

    call = front.dynamo.convert_exported_program_to_serialized_trt_engine
    settings = _settings(front, call, precision, scratch)
    _scalar_ranges(net)
    program = torch.export.export(net, (example,), strict=False)
    shape = front.Input(tuple(example.shape), dtype=example.dtype)
    with _quiet() as heard, _detailed(), _plain_quantisation(precision):
        try:
            plan = call(program, arg_inputs=[shape], **settings)
        except Exception as error:  # compilers raise anything: assertions, missing keys, unbound names
            # 2.11 logs what went wrong and then trips over its own unset variable.
            cause = first_line(heard[0] if heard else error)
            raise EngineError(
                f"torch-tensorrt {front.__version__} cannot convert this net in {precision} ({cause}); "
                "try another precision, or --backend compiled"
            ) from error
    return bytes(plan)


def _settings(front: Any, call: Any, precision: str, scratch: Path) -> dict[str, Any]:
    """Settings of a conversion. Raises EngineError for one that is gone, since unknown ones are ignored."""
    known = inspect.signature(call).parameters
    settings: dict[str, Any] = {
        "require_full_compilation": True,
        "min_block_size": 1,
        "immutable_weights": True,
        # FP32 means FP32: TF32 keeps 10 bits of each factor.
        "disable_tf32": precision == "fp32",
        "optimization_level": OPTIMIZATION_LEVEL,
        # Its cache ignores weights, GPU and versions; the store does not.
        "cache_built_engines": False,
        "reuse_cached_engines": False,
        # Otherwise all processes share one file, which each overwrites.
        "timing_cache_path": str(scratch / "timing.bin"),
    }
    gone = [name for name in settings if name not in known]
    if gone:
        raise EngineError(
            f"torch-tensorrt {front.__version__} does not know {', '.join(gone)}; install 2.11 to 2.14"
        )
    # An option in 2.11 and 2.12; from 2.13 on every network is typed by its weights and inputs.
    return settings | ({"use_explicit_typing": True} if "use_explicit_typing" in known else {})


@contextmanager
def _detailed() -> Iterator[None]:
    """Let plans hold what each layer computes in.

    torch-tensorrt does so only under its debugger, which takes over the program's logging; instead its
    configuration is completed here. A version that makes it elsewhere gives plans without this information.
    """
    try:
        interpreter = import_module("torch_tensorrt.dynamo.conversion._TRTInterpreter").TRTInterpreter
        original = interpreter._populate_trt_builder_config
    except (ImportError, AttributeError):
        yield
        return
    trt = import_module("tensorrt")

    def populate(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(self, *args, **kwargs)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        return config

    with patch.object(interpreter, "_populate_trt_builder_config", populate):
        yield


def _scalar_ranges(net: torch.nn.Module) -> None:
    """Make the range of a convolution with one output channel a scalar, as the converter expects."""
    import torch

    for module in net.modules():
        amax = getattr(module, "amax", None)
        if isinstance(amax, torch.Tensor) and amax.numel() == 1:
            module.amax = amax.reshape(())


@contextmanager
def _plain_quantisation(precision: str) -> Iterator[None]:
    """Let quantisation of constants run anywhere.

    Constant folding evaluates it, though it leaves it in place, and modelopt's own kernel would first have to
    be compiled by a CUDA toolkit, which most machines that run engines do not have.
    """
    if precision != "int8":
        yield
        return
    import torch

    def quantise(x: torch.Tensor, amax: torch.Tensor, *_: object) -> torch.Tensor:
        scale = amax.float() / 127
        return (torch.clamp(torch.round(x.float() / scale), -128, 127) * scale).to(x.dtype)

    library: Any = torch.library.Library("tensorrt", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns, once in a process, that a kernel was replaced
        for key in ("CPU", "CUDA"):
            library.impl("quantize_op", quantise, key, allow_override=True)
    try:
        yield
    finally:
        library._destroy()


class _Errors(logging.Handler):
    """Collects the causes of logged errors."""

    def __init__(self, heard: list[object]) -> None:
        super().__init__(logging.ERROR)
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self.heard.append(record.getMessage() if cause is None else cause)


@contextmanager
def _quiet() -> Iterator[list[object]]:
    """Collects the errors of torch-tensorrt and TensorRT, the cause first, instead of printing them."""
    heard: list[object] = []
    handler = _Errors(heard)
    logs = [logging.getLogger(name) for name in LOGS]
    propagated = [log.propagate for log in logs]
    for log in logs:
        log.addHandler(handler)
        log.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield heard
    finally:
        for log, propagates in zip(logs, propagated, strict=True):
            log.removeHandler(handler)
            log.propagate = propagates
