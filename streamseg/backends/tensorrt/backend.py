"""Runs serialised TensorRT plans on an NVIDIA GPU, without torch-tensorrt.

The same back end runs plans of TensorRT and TensorRT-RTX, built by torch-tensorrt or by TensorRT's ONNX
parser; the manifest's versions say which kind a plan is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamseg.backends.cuda.backend import CudaBackend
from streamseg.backends.tensorrt.runtime import (
    TORCH_TYPES,
    Port,
    deserialise,
    find_tensorrt,
    kind_of,
    layer_shares,
    ports_of,
)
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.engines.manifest import Manifest, read_verified

if TYPE_CHECKING:
    import torch

PLAN = "model.plan"
"""Name of the engine's file."""
DEVICE = "cuda"
"""Engines are loaded for torch's current GPU."""


class Plan:
    """A deserialised plan as a function of torch tensors, with an output buffer of its own.

    It enqueues on the current stream and waits for nothing, so that a CUDA graph can capture it.
    """

    def __init__(
        self,
        trt: Any,
        plan: bytes,
        *,
        name: str,
        shape: tuple[int, ...],
        structures: int = 1,
        device: str,
    ) -> None:
        """``shape``: (batch, 1, H, W) of the input; the output has ``structures`` planes instead of one.
        Raises EngineError for any other plan."""
        import torch

        self.name = name
        self._trt = trt
        self._device = torch.device(device)
        self._loaded = deserialise(trt, plan, name)
        self._in, self._out = ports_of(trt, self._loaded.engine, name)
        answer = (shape[0], structures, *shape[2:])
        for what, port, wanted in (("input", self._in, shape), ("output", self._out, answer)):
            if port.shape != wanted or port.type not in TORCH_TYPES:
                raise EngineError(
                    f"engine {name} has the {what} {port}, its manifest asks for real numbers {wanted}; "
                    "export it again"
                )
        self.dtype = _torch_type(self._in)
        self._output = torch.empty(answer, dtype=_torch_type(self._out), device=self._device)
        self._context = self._loaded.engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"engine {name} found too little free GPU memory; close other programs on the GPU, "
                "or use a smaller batch or size"
            )
        self._bind(self._out, self._output)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The plan's output, in a buffer that the next call overwrites. Raises EngineError."""
        import torch

        if x.dtype != self.dtype or tuple(x.shape) != self._in.shape:
            raise EngineError(
                f"engine {self.name} takes {self._in}, received {x.dtype} {tuple(x.shape)}; export it again"
            )
        # Freed memory is reused only after this call in the same stream, so the input may go at once.
        x = x.contiguous()
        self._bind(self._in, x)
        gpu = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device).cuda_stream if gpu else 0
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"engine {self.name} failed on the GPU; load it again")
        return self._output

    def shares(self) -> dict[str, float]:
        """Share of the engine's layers, 0..1, by the type that they compute in."""
        return layer_shares(self._trt, self._loaded.engine)

    def _bind(self, port: Port, tensor: torch.Tensor) -> None:
        if not self._context.set_tensor_address(port.name, tensor.data_ptr()):
            raise EngineError(f"engine {self.name} refuses a buffer for {port.name!r}; export it again")


class TensorRTBackend(CudaBackend):
    """A plan on a GPU, with pre- and postprocessing there and one CUDA graph around everything."""

    def __init__(self, plan: bytes, info: EngineInfo, *, trt: Any) -> None:
        """``trt`` is the module that runs the plan. Raises EngineError for a plan that does not fit."""
        from streamseg.backends.cuda.runner import CudaRunner, usable_device

        self.info = info
        usable_device(info.device, info.name)
        shape = (info.batch, 1, info.spec.height, info.spec.width)
        forward = Plan(
            trt,
            plan,
            name=info.name,
            shape=shape,
            structures=len(info.spec.structures),
            device=info.device,
        )
        # {"other": 1.0} if the engine does not say: the precision asked for is no evidence.
        self.shares = forward.shares()
        self.runner = CudaRunner(forward, info, dtype=forward.dtype)


def load(
    folder: Path,
    manifest: Manifest,
    fingerprint: str,
    *,
    threads: int | None = None,
    throughput: bool = False,
) -> TensorRTBackend:
    """Load an engine folder whose manifest fits this machine.

    ``threads`` and ``throughput`` are for processors; on a GPU a frame has the whole device either way.
    Raises EngineError if it is damaged, does not fit or there is no GPU, and MissingExtra.
    """
    plan = read_verified(folder, manifest, PLAN)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("a TensorRT engine", "torch", "tensorrt") from error
    info = manifest.info(fingerprint, device=DEVICE)
    return TensorRTBackend(plan, info, trt=find_tensorrt(kind_of(manifest.versions)))


def _torch_type(port: Port) -> torch.dtype:
    import torch

    kind: torch.dtype = getattr(torch, TORCH_TYPES[port.type])
    return kind
