"""A stand-in for an NVIDIA GPU: torch's "cuda" is the processor, and graphs record and repeat operators.

It shows that every call that a GPU would get is made, and with arguments that torch takes; neither speed nor
numbers of a GPU. The thread that entered :func:`fake_cuda`, and those that begin meanwhile, have the GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

MEMORY = 2**37


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Within the block there is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _CALLS.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch.profiler, "profile", _without_gpu(torch.profiler.profile))
        run = threading.Thread.run

        def run_with_gpu(thread: threading.Thread) -> None:
            with _OnTheProcessor():  # each thread has modes of its own
                run(thread)

        patch.setattr(threading.Thread, "run", run_with_gpu)
        with _OnTheProcessor():
            yield


class _OnTheProcessor(TorchFunctionMode):  # type: ignore[misc]
    """Replaces CUDA devices in all of torch's calls, leaves pinned memory out, and computes in bfloat16 where
    half precision is asked for, which processors are slow at."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        args, kwargs = tree_map(_processor, (args, kwargs or {}))
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        return func(*args, **kwargs)


def _without_gpu(profile: Any) -> Callable[..., Any]:
    """The profiler, which complains of every operator if it is to look at a GPU that is not there."""
    return lambda activities: profile(activities=[kind for kind in activities if "CUDA" not in str(kind)])


def _processor(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    if value is torch.float16:
        return torch.bfloat16
    return "cpu" if isinstance(value, str) and value.startswith("cuda") else value


class _Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Notes the operators that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found


class _Graph:
    """Repeats recorded operators: each reads and writes the memory that it did then."""

    def __init__(self) -> None:
        self.recorder = _Recorder()

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, before in self.recorder.calls:
            found = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(found), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def reset(self) -> None:
        self.recorder.calls.clear()


@contextmanager
def _capture(
    graph: _Graph, pool: object = None, stream: object = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    with graph.recorder:
        yield


class _Stream:
    """Everything is done when a call returns."""

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self.device = torch.device("cuda", 0)
        self.cuda_stream = 0

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: _Stream) -> None:
        pass


class _Event:
    """A time."""

    def __init__(self, enable_timing: bool = False, **_: object) -> None:
        self.at = 0.0

    def record(self, stream: object = None) -> None:
        self.at = time.monotonic()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: _Event) -> float:
        return max(1e-6, (end.at - self.at) * 1e3)


def _always(value: object) -> Callable[..., Any]:
    return lambda *_, **__: value


_CALLS: dict[str, Any] = {
    "is_available": _always(True),
    "device_count": _always(1),
    "current_device": _always(0),
    "get_device_name": _always("NVIDIA stand-in"),
    "get_device_capability": _always((9, 0)),
    "is_bf16_supported": _always(True),
    "synchronize": _always(None),
    "empty_cache": _always(None),
    "mem_get_info": _always((MEMORY, MEMORY)),
    "memory_allocated": _always(0),
    "memory_reserved": _always(0),
    "graph_pool_handle": _always((0, 1)),
    "current_stream": lambda device=None: _Stream(),
    "stream": lambda stream: nullcontext(),
    "Stream": _Stream,
    "Event": _Event,
    "CUDAGraph": _Graph,
    "graph": _capture,
}
