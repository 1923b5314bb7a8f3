"""The machine's limits in the same run as a benchmark of something else: before it, and after it.

Two runs can then be compared with what the machine itself did in each set off. The kernels, and the keys of
what they give, are those of the nets' benchmark, which times its own within its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.limits import Kernel, gpu_kernels, gpu_synchronize, limits, processor_kernels
from streamseg.benchmark.measure import Timing, add_rounds, interleave
from streamseg.benchmark.rows import why_absent
from streamseg.core.types import Backend

CALLS = 3
"""Of each kernel, each time."""
STALL_S = 30.0
"""Kernels that take longer are left out."""
GPU = "gpu "
"""What the kinds of a GPU's limits begin with."""

Say = Callable[[str], None]


class Yardstick:
    """Measures the machine whenever it is asked to. Leave the ``with`` block to let its memory go.

    A kernel that fails is told and left out; without any the benchmark still stands, and has no limits.
    """

    def __init__(self, threads: int, say: Say, *, gpu: bool = False) -> None:
        """``threads`` of the processor's kernels; ``gpu``: those of torch's GPU as well."""
        self._threads, self._say, self._gpu = threads, say, gpu
        self._kernels: list[Kernel] | None = None
        self._timings: dict[str, Timing] = {}

    def measure(self) -> None:
        """Time every kernel: one or two seconds on two cores, the first time twice that. What was timed
        before counts as well."""
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
        )
        add_rounds(self._timings, found)

    def around(
        self, run: Callable[[], None], *, kept: Callable[[], bool], stopped: Callable[[], None]
    ) -> bool:
        """Measure before and after ``run``; whether Ctrl-C ended it.

        ``kept`` says whether anything was finished by then: if so ``stopped`` is called, and what is left is
        told there; else KeyboardInterrupt passes through.
        """
        try:
            self.measure()
            run()
            self.measure()
        except KeyboardInterrupt:
            if not kept():
                raise
            stopped()
            return True
        return False

    def to_json(self) -> dict[str, Any]:
        """The limits by kind, for a run's ``limits``."""
        kernels = self._kernels or []
        return {kind: limit.to_json() for kind, limit in limits(kernels, self._timings).items()}

    def _made(self) -> list[Kernel]:
        try:
            with kept_signal_stack():
                return kernels_of(self._threads, gpu=self._gpu)
        except Exception as error:  # of libraries that are not ours: the benchmark does not need them
            self._left_out("all of them", error)
            return []

    def _left_out(self, name: str, error: Exception) -> None:
        self._say(f"limits of the machine: {name} left out: {why_absent(error, 300)}")
        self._kernels = [kernel for kernel in self._kernels or [] if kernel.name != name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with kept_signal_stack():  # nets are freed
            self._kernels = [replace(kernel, call=_gone) for kernel in self._kernels or []]


def kernels_of(threads: int, *, gpu: bool) -> list[Kernel]:
    """What shows the limits of the processor, and of the GPU; a GPU's kinds begin with :data:`GPU`."""
    found = processor_kernels(threads)
    if gpu:
        named = [(f"{GPU.upper()}{kernel.name}", f"{GPU}{kernel.kind}", kernel) for kernel in gpu_kernels()]
        found += [replace(kernel, name=name, kind=kind) for name, kind, kernel in named]
    return found


def on_gpu(engines: Sequence[Backend]) -> bool:
    """Whether any of these engines runs on a GPU."""
    devices = [getattr(getattr(engine, "runner", None), "device", None) for engine in engines]
    return any(getattr(device, "type", "") == "cuda" for device in devices)


def _gone() -> None:
    """A kernel whose memory was let go."""
