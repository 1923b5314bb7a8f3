"""OpenVINO on the processor: the default back end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import openvino as ov

from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import EngineError
from streamseg.core.hardware import thread_count
from streamseg.core.types import Planes, Tensor
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.manifest import Manifest, read_verified

CAPABILITIES = {"fp16": "FP16", "bf16": "BF16"}
"""OpenVINO's names of a processor's ability to compute in a precision."""
HINTS = {"fp16": "f16", "bf16": "bf16"}
"""OpenVINO's names of the precisions that a net with float weights may run in, besides f32."""
NO_ARITHMETIC = ("Input", "Output", "Const", "Reorder", "Reshape")
"""Types of layers in a compiled net that compute nothing."""
COMPUTES_IN = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "I8": "int8", "i8": "int8", "u8": "int8"}
"""Our names of precisions by the last part of a kernel's name, such as ``brgconv_avx512_I8``."""


def load(
    folder: Path,
    manifest: Manifest,
    fingerprint: str,
    *,
    threads: int | None = None,
    throughput: bool = False,
) -> OpenVINOBackend:
    """Load an engine folder whose manifest was read already; each file is hashed before it is parsed.

    ``fingerprint`` identifies the engine. ``threads`` None follows STREAMSEG_THREADS; ``throughput`` as in
    :class:`OpenVINOBackend`. Raises EngineError if it is damaged or does not fit, UsageError.
    """
    xml, weights = (read_verified(folder, manifest, file) for file in ("model.xml", "model.bin"))
    with translated(f"read engine {folder}"):
        model = ov.Core().read_model(xml, weights)
    return OpenVINOBackend(model, manifest.info(fingerprint), threads=threads, throughput=throughput)


@cache
def can_compute_in(precision: str) -> bool:
    """Whether this processor computes in fp16 or bf16 (any other precision: yes)."""
    needed = CAPABILITIES.get(precision)
    return needed is None or needed in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn OpenVINO's exceptions into EngineError, which says that it cannot do ``what``."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        raise EngineError(
            f"OpenVINO {ov.__version__} cannot {what}: {_line(error)}; "
            "export it again with the installed version"
        ) from error


@dataclass(frozen=True, slots=True)
class _InferSlot:
    """An inference request with its own tensors, so that a frame costs two copies and one allocation."""

    request: ov.InferRequest
    input: Tensor
    output: Planes
    """float32 (batch, structures, H, W)."""


class OpenVINOBackend(Described):
    """A net compiled for this machine's processor.

    By default all threads work on one frame, for the lowest latency. With ``throughput`` they are divided
    among ``info.lanes`` frames: each takes longer, but threads no longer wait for one another, and the rate
    is higher. ``infer`` may be called from that many threads at a time; further ones wait.
    """

    def __init__(
        self,
        model: ov.Model,
        info: EngineInfo,
        *,
        threads: int | None = None,
        throughput: bool = False,
    ) -> None:
        """Compile a model: input (batch, 1, H, W) float32, output (batch, structures, H, W) float32
        probability.

        ``info`` describes the engine but for its lanes, which this determines. FP16 and BF16 are computed in
        only if the processor can. ``threads`` None follows STREAMSEG_THREADS. Raises EngineError for a model
        that does not fit the spec or does not compile, UsageError for an invalid number of threads.
        """
        taken = [info.batch, 1, info.spec.height, info.spec.width]
        given = [info.batch, len(info.spec.structures), info.spec.height, info.spec.width]
        _check_model(model, taken, given, info.name)
        with translated(f"compile engine {info.name} for this processor"):
            options = _options(info.precision, threads, throughput)
            with kept_signal_stack():
                compiled = ov.Core().compile_model(model, "CPU", options)
            lanes = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if throughput else 1
            free: SimpleQueue[_InferSlot] = SimpleQueue()
            for _ in range(lanes):
                free.put(_lane(compiled, taken, given))
        self.info = replace(info, lanes=lanes)
        self._free: SimpleQueue[_InferSlot] | None = free
        self._compiled: ov.CompiledModel | None = compiled

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, name: str, *, threads: int | None = None, throughput: bool = False
    ) -> OpenVINOBackend:
        """Build an FP32 engine from folded weights of any net, without torch. Raises EngineError."""
        from streamseg.backends.openvino.graph import build_model, mirror_averaged

        model = build_model(checkpoint.weights, checkpoint.spec, net=checkpoint.net)
        return cls(
            mirror_averaged(model) if checkpoint.spec.mirrored else model,
            checkpoint.info(name, "openvino"),
            threads=threads,
            throughput=throughput,
        )

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, H, W), of a tensor (batch, 1, H, W); of more than one frame
        (batch, structures, H, W).

        The caller may keep it. Raises EngineError.
        """
        free = self._free
        if free is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        expected = (self.info.batch, 1, self.spec.height, self.spec.width)
        if tensor.shape != expected:
            raise EngineError(f"engine {self.name} takes a tensor {expected}, received {tensor.shape}")
        lane = free.get()
        try:
            np.copyto(lane.input, tensor)
            # These two skip the dictionaries that infer() builds; wait() releases the interpreter.
            lane.request.start_async()
            lane.request.wait()
            return np.array(lane.output[0] if self.info.batch == 1 else lane.output)
        except RuntimeError as error:
            raise EngineError(f"engine {self.name} failed: {_line(error)}; load it again") from error
        finally:
            free.put(lane)

    def precision_found(self) -> dict[str, float]:
        """Share of the compiled net's layers, 0..1, by what they compute in: fp32, fp16, bf16, int8, other.

        Read from the kernels' names, because OpenVINO reports the precision of a layer's weights as its
        run-time precision if these are stored in half. Raises EngineError after :meth:`close`.
        """
        if self._compiled is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        with translated(f"describe engine {self.name}"):
            layers = [node.get_rt_info() for node in self._compiled.get_runtime_model().get_ordered_ops()]
        found = Counter(
            COMPUTES_IN.get(info["primitiveType"].astype(str).rpartition("_")[2], "other")
            for info in layers
            if info["layerType"].astype(str) not in NO_ARITHMETIC
        )
        return {name: count / found.total() for name, count in found.most_common()}

    def close(self) -> None:
        """Free the compiled net. May be called twice."""
        self._free = None
        self._compiled = None


def _lane(compiled: ov.CompiledModel, taken: list[int], given: list[int]) -> _InferSlot:
    lane = _InferSlot(
        compiled.create_infer_request(), np.zeros(taken, np.float32), np.zeros(given, np.float32)
    )
    lane.request.set_input_tensor(ov.Tensor(lane.input, shared_memory=True))
    lane.request.set_output_tensor(ov.Tensor(lane.output, shared_memory=True))
    return lane


def _options(precision: str | None, threads: int | None, throughput: bool) -> dict[str, str | int]:
    # Without the precision hint OpenVINO uses bfloat16 if the processor has it, also for the layers between
    # an INT8 net's quantised ones.
    hint = HINTS[precision] if precision in HINTS and can_compute_in(precision) else "f32"
    options: dict[str, str | int] = {
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
    }
    count = thread_count(threads)
    if count is not None:
        options["INFERENCE_NUM_THREADS"] = count
    return options


def _check_model(model: ov.Model, taken: list[int], given: list[int], name: str) -> None:
    for what, ports, shape in (("input", model.inputs, taken), ("output", model.outputs, given)):
        found = [f"{port.element_type.type_name} {port.partial_shape}" for port in ports]
        fits = len(ports) == 1 and ports[0].partial_shape == ov.PartialShape(shape)
        if not fits or ports[0].element_type != ov.Type.f32:
            raise EngineError(
                f"engine {name} has the {what} {', '.join(found)}, its specification asks for f32 {shape}; "
                "export it again"
            )


def _line(error: BaseException) -> str:
    """The last line of OpenVINO's long messages, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
