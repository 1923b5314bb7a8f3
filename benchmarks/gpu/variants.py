"""The variants compared on a GPU: one net at one size and batch by torch eager, torch.compile and TensorRT.

Every variant takes frames as uint8 in the computer's memory and gives masks there (``mask``), and runs its
net alone on an input that is on the device (``net_call``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streamseg.backends.compiled import PRECISIONS, CompiledBackend
from streamseg.backends.cuda.backend import CudaBackend
from streamseg.backends.cuda.preprocess import exact_products
from streamseg.backends.cuda.runner import CudaRunner
from streamseg.backends.loading import RUNNERS
from streamseg.core.errors import StreamsegError
from streamseg.core.types import Grey
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.export.build import build_engine
from streamseg.nets.inference import InferenceNet, inference_net
from streamseg.phantom import render_still
from streamseg.segmentation.preprocess import letterboxed, to_tensor

FRAME = (420, 580)
"""Rows and columns of the frames, as the paper's data have."""
CALIBRATION = 64
"""Phantoms that INT8 is calibrated on: enough for speed, which is all that is measured with them."""


@dataclass(slots=True)
class Variant:
    """One way to run a net."""

    name: str
    mask: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]
    """Frames, uint8 (h, w) or (batch, h, w), to masks at the net's resolution."""
    probability: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    net_call: Callable[[], object]
    """Enqueue the net once, on the same input each time."""
    precision: str
    found: dict[str, float]
    """Share of layers by type."""
    build_s: float = 0.0
    """Seconds to build and load it here, caches as they are."""
    close: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Absent:
    """A variant that is not there, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Point:
    """A net at one size and batch, on a device."""

    checkpoint: Checkpoint
    batch: int
    device: str

    @property
    def key(self) -> str:
        spec = self.checkpoint.spec
        return f"{self.checkpoint.net} {spec.height}x{spec.width} b{self.batch}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, 1, self.checkpoint.spec.height, self.checkpoint.spec.width


def phantoms(count: int, first: int = 0) -> list[Grey]:
    """Pictures of FRAME's size, each of another person."""
    return [_phantom(first + n) for n in range(count)]


@lru_cache(maxsize=256)
def _phantom(seed: int) -> Grey:
    return render_still(seed, height=FRAME[0], width=FRAME[1]).image


def batched(frames: Sequence[Grey], batch: int) -> list[npt.NDArray[np.uint8]]:
    """As many inputs as there are frames, each of ``batch`` frames, or a plain frame if that is 1."""
    if batch == 1:
        return [np.ascontiguousarray(frame) for frame in frames]
    return [np.stack([frames[(n + k) % len(frames)] for k in range(batch)]) for n in range(len(frames))]


def make(point: Point, names: Sequence[str]) -> Iterator[Variant | Absent]:
    """Variants by name, made one after another; what cannot be made says why.

    Names: ``eager-fp32``, ``eager-fp16`` (plain torch, frames prepared by OpenCV), ``graph-PRECISION`` (the
    same net in our runner), ``compiled-PRECISION``, ``tensorrt-PRECISION``; ``light-FORM`` and
    ``compiledlight-FORM`` with less arithmetic, in fp16 (bf16 on the processor).
    """
    for name in names:
        kind, _, rest = name.partition("-")
        began = time.monotonic()
        try:
            with torch.no_grad():
                variant = MAKERS[kind](point, name, rest)
        except (StreamsegError, RuntimeError, ImportError, OSError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            yield Absent(name, reason)
            continue
        variant.build_s = time.monotonic() - began
        yield variant


def _eager(point: Point, name: str, precision: str) -> Variant:
    """Torch as one would write it: OpenCV prepares the frame, the net runs kernel by kernel, NCHW."""
    dtype = getattr(torch, PRECISIONS[precision])
    net = inference_net(point.checkpoint).to(point.device, dtype)
    spec, device = point.checkpoint.spec, point.device
    full = dtype == torch.float32

    def run(frames: npt.NDArray[np.uint8]) -> torch.Tensor:
        stack = frames if frames.ndim == 3 else frames[None]
        tensor = np.concatenate([to_tensor(frame, spec) for frame in stack])
        with torch.no_grad(), exact_products(torch.device(device)) if full else nullcontext():
            probability: torch.Tensor = net(torch.from_numpy(tensor).to(device, dtype))
            return probability[:, 0].float()

    def shaped(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array[0] if point.batch == 1 else array

    fixed = _fixed_input(point, dtype)

    def net_call() -> object:
        with torch.no_grad(), exact_products(torch.device(device)) if full else nullcontext():
            return net(fixed)

    return Variant(
        name,
        lambda frames: shaped((run(frames) >= spec.threshold).cpu().numpy()),
        lambda frames: shaped(run(frames).cpu().numpy()),
        net_call,
        precision,
        {precision: 1.0},
    )


def _graphed(point: Point, name: str, precision: str) -> Variant:
    """The same kernels in our runner: what the runner gives on its own."""
    return _in_runner(point, name, precision, inference_net(point.checkpoint))


def _light(point: Point, name: str, form: str) -> Variant:
    """With less arithmetic in the decoders, kernel by kernel in our runner."""
    precision = "fp16" if point.device.startswith("cuda") else "bf16"
    return _in_runner(point, name, precision, inference_net(point.checkpoint, light=form))  # type: ignore[arg-type]


def _in_runner(point: Point, name: str, precision: str, net: InferenceNet, **compiling: Any) -> Variant:
    dtype = getattr(torch, PRECISIONS[precision])
    forward: Any = net.to(point.device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiling:
        program = torch.export.export(forward, (_fixed_input(point, dtype),))
        forward = torch.compile(program.module(), fullgraph=True, dynamic=False, **compiling)
    info = point.checkpoint.info(name, "graph", precision=precision, batch=point.batch, device=point.device)
    return _of_runner(point, name, precision, CudaRunner(forward, info, dtype=dtype))


def _compiled_light(point: Point, name: str, form: str) -> Variant:
    """torch.compile of the net with less arithmetic, to set beside the plain compiled one."""
    net = inference_net(point.checkpoint, light=form)  # type: ignore[arg-type]
    return _in_runner(point, name, "fp16", net, options={"max_autotune": True})


def _compiled(point: Point, name: str, precision: str) -> Variant:
    checkpoint = point.checkpoint
    info = checkpoint.info(name, "compiled", precision=precision, batch=point.batch, device=point.device)
    return _of_backend(point, name, precision, CompiledBackend(checkpoint, info))


def _tensorrt(point: Point, name: str, precision: str) -> Variant:
    """Through builder and loader, as an export does it."""
    checkpoint, spec = point.checkpoint, point.checkpoint.spec
    there = any(find_spec(package) for package in ("torch_tensorrt", "tensorrt", "tensorrt_rtx"))
    count = CALIBRATION if precision == "int8" and there else 0  # without TensorRT the builder says so
    images = [letterboxed(frame, spec) for frame in phantoms(count, 1000)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build_engine(
            checkpoint, "tensorrt", precision, folder, batch=point.batch, images=images, preset="performance"
        )
        manifest, fingerprint = read_manifest(folder)
        backend = import_module(RUNNERS["tensorrt"]).load(folder, manifest, fingerprint)
    return _of_backend(point, name, precision, backend)


def _of_backend(point: Point, name: str, precision: str, backend: CudaBackend) -> Variant:
    found, close = backend.precision_found(), backend.close
    return replace(_of_runner(point, name, precision, backend.runner), found=found, close=close)


def _of_runner(point: Point, name: str, precision: str, runner: CudaRunner) -> Variant:
    return Variant(
        name,
        runner.mask,
        runner.probability,
        _net_call(point, runner),
        precision,
        {precision: 1.0},
        close=runner.close,
    )


def _net_call(point: Point, runner: CudaRunner) -> Callable[[], object]:
    """The runner's net alone: on a GPU as a CUDA graph."""
    forward = runner.forward
    assert forward is not None
    fixed = _fixed_input(point, runner.dtype)
    full = runner.dtype == torch.float32

    def once() -> object:
        with torch.no_grad(), exact_products(runner.device) if full else nullcontext():
            return forward(fixed)

    if runner.device.type != "cuda":
        return once
    stream = torch.cuda.Stream(runner.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(runner.device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            once()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        once()

    def replay() -> object:
        graph.replay()
        return fixed  # which the graph reads, and which would be freed without this

    return replay


def _fixed_input(point: Point, dtype: torch.dtype) -> torch.Tensor:
    """A phantom as the net sees it, on the device; not noise, and not zeros."""
    one = to_tensor(phantoms(1, 7)[0], point.checkpoint.spec)
    return torch.from_numpy(np.repeat(one, point.batch, axis=0)).to(point.device, dtype)


MAKERS: dict[str, Callable[[Point, str, str], Variant]] = {
    "eager": _eager,
    "graph": _graphed,
    "compiled": _compiled,
    "tensorrt": _tensorrt,
    "light": _light,
    "compiledlight": _compiled_light,
}
