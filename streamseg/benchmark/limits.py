"""The limits of a machine: what it can compute and copy at most, measured by kernels that do nothing else.

Each :class:`Kernel` is one call of known work, timed interleaved with what is compared with it. The limit of
a kind is the rate of its fastest kernel: large matrix products by every library at hand, and chains of
convolutions that are computed as a matrix product, so that little time is spent at their ends. A bandwidth
counts every byte of the source and of the copy once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np

from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.provenance import last_level_cache
from streamseg.benchmark.rows.run import LimitInfo
from streamseg.benchmark.time_limit import TimeLimit
from streamseg.benchmark.timing import Call, Timing, add_rounds, interleave
from streamseg.core.errors import MissingExtra, one_line
from streamseg.core.types import Say

CHAINS = ((512, 1, 8), (256, 3, 4))
"""Channels, kernel size and layers of the chains of convolutions: each kernel shape that inference uses."""
CHAIN_SIZE = (48, 64)
SIDE = 2048
"""Of square matrices on the processor."""
GPU_SIDE = 8192
GPU_COPY_BYTES = 2**30
GPU = "gpu "
"""Prefix of the kinds of a GPU's limits."""
CALLS = 3
"""Of each kernel, each time that the limits are measured."""
STALL_S = 30.0
"""Kernels that take longer are left out."""


@dataclass(frozen=True, slots=True, repr=False)
class Kernel:
    """One call of known work."""

    name: str
    kind: str
    """``fp32``, ``fp16``, ``bf16``, ``int8`` (work in FLOP, 2 per multiply-add) or ``copy`` (in bytes)."""
    work: float
    call: Call


@dataclass(frozen=True, slots=True)
class Limit:
    """The highest rate that was measured of one kind."""

    kind: str
    rate: float
    """FLOP or bytes per second: the median over all calls of the fastest kernel."""
    kernel: str
    """The kernel that reached it."""
    all_rates: Mapping[str, float]
    """By kernel."""

    def info(self) -> LimitInfo:
        """For rows, in 10^9 per second."""
        rates = {name: round(rate / 1e9, 1) for name, rate in self.all_rates.items()}
        return LimitInfo(giga_per_s=round(self.rate / 1e9, 1), kernel=self.kernel, kernels=rates)


def limits(kernels: Iterable[Kernel], timings: Mapping[str, Timing]) -> dict[str, Limit]:
    """The limit of each kind, of those kernels that were timed under their names."""
    rates: dict[str, dict[str, float]] = {}
    for kernel in kernels:
        if kernel.name in timings:
            rate = kernel.work / max(timings[kernel.name].median_ms / 1e3, 1e-9)
            rates.setdefault(kernel.kind, {})[kernel.name] = rate
    best = {kind: max(found, key=found.__getitem__) for kind, found in rates.items()}
    return {kind: Limit(kind, rates[kind][name], name, rates[kind]) for kind, name in best.items()}


class MachineLimits:
    """Measures the machine's limits several times during a benchmark of something else.

    A kernel that fails is left out with a message; without any the benchmark goes on, and has no limits.
    Leave the ``with`` block to free the kernels' memory.
    """

    def __init__(self, threads: int, say: Say, *, gpu: bool = False) -> None:
        """``threads`` of the processor's kernels; ``gpu`` adds those of torch's GPU."""
        self._threads, self._say, self._gpu = threads, say, gpu
        self._kernels: list[Kernel] | None = None
        self._timings: dict[str, Timing] = {}

    def measure(self, limit: TimeLimit | None = None) -> None:
        """Time every kernel: one or two seconds on two cores, the first time twice that. Earlier times count
        as well. A kernel that finds no time within ``limit`` is left out."""
        limit = limit or TimeLimit()
        if self._kernels is None:
            self._say("measuring the machine's limits")
            self._kernels = self._made()
        if not self._kernels:
            return
        found = interleave(
            {kernel.name: kernel.call for kernel in self._kernels},
            rounds=1,
            per_round=CALLS,
            synchronize=gpu_synchronize() if self._gpu else None,
            stall_s=STALL_S,
            on_failure=self._left_out,
            limit=limit,
        )
        add_rounds(self._timings, found)

    def found(self) -> dict[str, LimitInfo]:
        """The limits so far, by kind."""
        kernels = self._kernels or []
        return {kind: limit.info() for kind, limit in limits(kernels, self._timings).items()}

    def _made(self) -> list[Kernel]:
        try:
            return kernels_of(self._threads, gpu=self._gpu)
        except Exception as error:  # of libraries that are not ours: the benchmark does not need them
            self._left_out("all of them", error)
            return []

    def _left_out(self, name: str, error: Exception) -> None:
        self._say(f"limits of the machine: {name} left out: {one_line(error, 300)}")
        self._kernels = [kernel for kernel in self._kernels or [] if kernel.name != name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with kept_signal_stack():  # nets are freed
            self._kernels = [replace(kernel, call=_freed) for kernel in self._kernels or []]


def kernels_of(threads: int, *, gpu: bool) -> list[Kernel]:
    """The kernels of the processor and, with ``gpu``, of the GPU, whose kinds begin with :data:`GPU`."""
    with kept_signal_stack():  # compilers call OpenVINO without our back end
        found = processor_kernels(threads)
    if gpu:
        named = [(f"{GPU.upper()}{kernel.name}", f"{GPU}{kernel.kind}", kernel) for kernel in gpu_kernels()]
        found += [replace(kernel, name=name, kind=kind) for name, kind, kernel in named]
    return found


def _freed() -> None:
    """Stands for a kernel whose memory was freed."""


def processor_kernels(
    threads: int, kinds: Sequence[str] = ("fp32", "int8", "copy"), *, shrink: int = 1
) -> list[Kernel]:
    """Kernels for the processor with this number of threads, ready and warm except for one call.

    Those of torch are left out if it is not installed; ``threads`` sets torch's number for the whole process.
    ``shrink`` divides the sides of the work, for tests.
    """
    made: list[Kernel] = []
    if "fp32" in kinds:
        made += _torch_product(threads, SIDE // shrink)
        made.append(_openvino_product(threads, SIDE // shrink))
    for kind in ("fp32", "int8"):
        if kind in kinds:
            made += [_chain(kind, threads, c // shrink, size, layers) for c, size, layers in CHAINS]
    if "copy" in kinds:
        made.append(_copy(threads, shrink))
    return made


def _torch_product(threads: int, side: int) -> list[Kernel]:
    try:
        import torch
    except ImportError:
        return []
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(side, side, generator=generator) for _ in range(2))
    call = partial(torch.mm, left, right, out=torch.empty(side, side))
    return [Kernel(f"torch product {side}", "fp32", 2.0 * side**3, call)]


def _openvino_product(threads: int, side: int) -> Kernel:
    import openvino as ov
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    left = ops.parameter([side, side], np.float32, name="left")
    product = ops.matmul(left, ops.constant(rng.random((side, side), np.float32)), False, False)
    call = _openvino_call(ov.Model([product.output(0)], [left], "product"), threads)
    return Kernel(f"OpenVINO product {side}", "fp32", 2.0 * side**3, call)


def _chain(kind: str, threads: int, channels: int, size: int, layers: int) -> Kernel:
    """Convolutions one after another, each followed by a ReLU as in the nets; int8: u8 by i8."""
    import openvino as ov
    from openvino import opset1
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    x = frame = ops.parameter([1, channels, *CHAIN_SIZE], np.float32, name="frame")
    shape = (channels, channels, size, size)
    for _ in range(layers):
        if kind == "int8":
            ends = [np.full((1, 1, 1, 1), end, np.float32) for end in (0, 2.55, 0, 2.55)]
            x = ops.fake_quantize(x, *ends, 256)
            steps = ops.constant(rng.integers(-127, 128, shape).astype(np.int8))
            weights = ops.multiply(ops.convert(steps, np.float32), np.full((channels, 1, 1, 1), 1e-4, "f4"))
        else:
            weights = ops.constant(0.01 * rng.standard_normal(shape, np.float32))
        pad = [size // 2] * 2
        x = ops.relu(ops.convolution(x, weights, [1, 1], pad, pad, [1, 1]))
    small = opset1.max_pool(x, [8, 8], [0, 0], [0, 0], [8, 8])  # little to copy out
    model = ov.Model([small.output(0)], [frame], "chain")
    work = 2.0 * np.prod(shape) * np.prod(CHAIN_SIZE) * layers
    name = f"OpenVINO {kind} {layers} x conv{size}-{channels}"
    return Kernel(name, kind, float(work), _openvino_call(model, threads))


def _openvino_call(model: Any, threads: int) -> Call:
    import openvino as ov

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
    shape = tuple(model.inputs[0].shape)
    request.set_input_tensor(ov.Tensor(np.random.default_rng(1).random(shape, np.float32)))

    def call() -> None:
        request.start_async()
        request.wait()

    return call


def _copy(threads: int, shrink: int) -> Kernel:
    """A copy of memory that no cache holds, by as many threads as inference has."""
    size = max(2**26, last_level_cache()) * 2 // shrink**4
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = min(size, available // 8) // threads * threads
    shape = threads, size // threads
    source, target = np.ones(shape, np.uint8), np.zeros(shape, np.uint8)

    def call() -> None:
        with ThreadPoolExecutor(threads) as pool:  # copying releases the interpreter's lock
            list(pool.map(np.copyto, target, source))

    return Kernel(f"copy of {size // 2**20} MiB by {threads} threads", "copy", 2.0 * size, call)


def gpu_kernels(
    kinds: Sequence[str] = ("fp16", "bf16", "fp32", "copy"),
    *,
    device: str = "cuda",
    side: int = GPU_SIDE,
    copy_bytes: int = GPU_COPY_BYTES,
) -> list[Kernel]:
    """Kernels for a GPU through torch: square products of random matrices, and a copy within its memory.

    A call only starts the work: time them with :func:`gpu_synchronize`. FP32 follows torch's setting of TF32.
    Raises MissingExtra without torch.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("measuring a GPU's limits", "torch", "tensorrt") from error
    types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    made = []
    for kind in kinds:
        if kind == "copy":
            source = torch.ones(copy_bytes, dtype=torch.uint8, device=device)
            call: Callable[[], object] = partial(torch.empty_like(source).copy_, source)
            made.append(Kernel(f"copy of {copy_bytes // 2**20} MiB", "copy", 2.0 * copy_bytes, call))
        else:
            # Zeros or ones would draw less power and clock higher than any real data.
            left, right = (torch.randn(side, side, device=device).to(types[kind]) for _ in range(2))
            call = partial(torch.mm, left, right, out=torch.empty_like(left))
            made.append(Kernel(f"torch product {side} {kind}", kind, 2.0 * side**3, call))
    return made


def gpu_synchronize(device: str = "cuda") -> Call:
    """A call that waits for a device, for ``interleave``'s ``synchronize``; on a processor it does
    nothing."""
    import torch

    return partial(torch.cuda.synchronize, device) if device.startswith("cuda") else (lambda: None)
