"""OpenVINO on the processor: the default back end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import openvino as ov

from streamseg.backends.manifest import read_manifest, read_verified
from streamseg.backends.signal_stack import kept_signal_stack
from streamseg.checkpoint import Checkpoint
from streamseg.errors import EngineError, UsageError
from streamseg.types import InputSpec, Tensor

THREADS_VARIABLE = "STREAMSEG_THREADS"
"""Environment variable with the number of threads used for inference; unset is OpenVINO's choice."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """A request with its tensors, which live as long: a frame costs two copies and one allocation."""

    request: ov.InferRequest
    input: Tensor
    output: Tensor


class OpenVINOBackend:
    """A net compiled for this machine's processor.

    By itself all threads work on one frame, for the lowest latency. With ``throughput`` they are divided
    among ``lanes`` frames: each takes longer, but threads no longer wait for one another, and the rate is
    higher. ``infer`` may be called from ``lanes`` threads at a time; more would wait.
    """

    def __init__(
        self,
        model: ov.Model,
        *,
        name: str,
        fingerprint: str,
        spec: InputSpec,
        precision: str,
        trained: bool = True,
        threads: int | None = None,
        throughput: bool = False,
    ) -> None:
        """Compile a model: input (1, 1, H, W) float32, output (1, 1, H, W) float32 probability.

        ``threads`` None follows STREAMSEG_THREADS. Raises EngineError for a model that does not fit
        the spec or does not compile, UsageError for a number of threads that makes no sense.
        """
        self.name = name
        self.fingerprint = fingerprint
        self.spec = spec
        self.precision = precision
        self.trained = trained
        shape = [1, 1, spec.height, spec.width]
        _check_model(model, shape, name)
        try:
            with kept_signal_stack():
                compiled = ov.Core().compile_model(model, "CPU", _options(threads, throughput))
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if throughput else 1
            self.lanes = count
            self._free: SimpleQueue[_Lane] | None = SimpleQueue()
            for _ in range(count):
                self._free.put(_lane(compiled, shape))
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {ov.__version__} cannot compile engine {name} for this processor: {_line(error)}; "
                "export it again with the installed version"
            ) from error

    @classmethod
    def from_folder(
        cls, folder: Path, *, threads: int | None = None, throughput: bool = False
    ) -> OpenVINOBackend:
        """Load an engine folder. Raises EngineError when it is damaged or does not fit."""
        manifest, fingerprint = read_manifest(folder)
        if manifest.backend != "openvino":
            raise EngineError(
                f"engine {folder} is for the back end {manifest.backend!r}, unknown to this version; "
                "export its checkpoint for openvino"
            )
        xml, weights = (read_verified(folder, manifest, file) for file in ("model.xml", "model.bin"))
        try:
            model = ov.Core().read_model(xml, weights)
        except (RuntimeError, TypeError, ValueError) as error:
            raise EngineError(
                f"OpenVINO {ov.__version__} cannot read engine {folder}: {_line(error)}; export it again"
            ) from error
        return cls(
            model,
            name=manifest.name,
            fingerprint=fingerprint,
            spec=manifest.spec,
            precision=manifest.precision,
            trained=manifest.trained,
            threads=threads,
            throughput=throughput,
        )

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, name: str, *, threads: int | None = None, throughput: bool = False
    ) -> OpenVINOBackend:
        """Build an FP32 engine from a folded U-Net or improved U-Net, without torch. Raises EngineError."""
        from streamseg.export.openvino import build_model

        return cls(
            build_model(checkpoint.weights, checkpoint.spec),
            name=name,
            fingerprint=checkpoint.sha256,
            spec=checkpoint.spec,
            precision="fp32",
            trained=checkpoint.trained,
            threads=threads,
            throughput=throughput,
        )

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """Probability, float32 (height, width); the caller may keep it. Raises EngineError."""
        free = self._free
        if free is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        expected = (1, 1, self.spec.height, self.spec.width)
        if tensor.shape != expected:
            raise EngineError(f"engine {self.name} takes a tensor {expected}, received {tensor.shape}")
        lane = free.get()
        try:
            np.copyto(lane.input, tensor)
            # This pair skips the dictionaries that infer() builds; wait() frees the interpreter.
            lane.request.start_async()
            lane.request.wait()
            return np.array(lane.output[0, 0])
        except RuntimeError as error:
            raise EngineError(f"engine {self.name} failed: {_line(error)}; load it again") from error
        finally:
            free.put(lane)

    def close(self) -> None:
        """Free the compiled net. May be called twice."""
        self._free = None


def _lane(compiled: ov.CompiledModel, shape: list[int]) -> _Lane:
    lane = _Lane(compiled.create_infer_request(), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    lane.request.set_input_tensor(ov.Tensor(lane.input, shared_memory=True))
    lane.request.set_output_tensor(ov.Tensor(lane.output, shared_memory=True))
    return lane


def _options(threads: int | None, throughput: bool) -> dict[str, str | int]:
    # Without the precision hint OpenVINO picks bfloat16 by itself where the processor has it, also for
    # the layers between an INT8 net's quantised ones.
    options: dict[str, str | int] = {
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    count = _threads() if threads is None else threads
    if count is not None:
        if count < 1:
            raise UsageError(f"inference needs at least 1 thread, received {count}")
        options["INFERENCE_NUM_THREADS"] = count
    return options


def _threads() -> int | None:
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{THREADS_VARIABLE} is a number of threads, received {text!r}; unset it") from None


def _check_model(model: ov.Model, shape: list[int], name: str) -> None:
    for what, ports in (("input", model.inputs), ("output", model.outputs)):
        found = [f"{port.element_type.type_name} {port.partial_shape}" for port in ports]
        fits = len(ports) == 1 and ports[0].partial_shape == ov.PartialShape(shape)
        if not fits or ports[0].element_type != ov.Type.f32:
            raise EngineError(
                f"engine {name} has the {what} {', '.join(found)}, its specification asks for f32 {shape}; "
                "export it again"
            )


def _line(error: BaseException) -> str:
    """The telling line of OpenVINO's many-line messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
