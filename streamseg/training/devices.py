"""Devices of a run: one processor, one GPU, or several processes and machines started by ``torchrun``."""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch

from streamseg.core.errors import MissingExtra, StreamsegError, UsageError
from streamseg.core.hardware import this_processor
from streamseg.training.config import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(
    device: str = "auto", precision: Precision = "32-true", *, deterministic: bool = False
) -> Fabric:
    """A launched Fabric.

    ``device`` is ``auto`` (a GPU if there is one), ``cpu`` or ``gpu``. Under ``torchrun`` every process finds
    its rank in the environment; without it there is one process. ``deterministic`` makes runs repeatable on a
    GPU too, at some cost in speed; on a processor they always are.
    Raises MissingExtra without lightning-fabric, UsageError for a missing device, StreamsegError if processes
    cannot find one another.
    """
    try:
        from lightning_fabric import Fabric  # here, because its import takes longer than torch's
    except ImportError as error:
        raise MissingExtra("training", "lightning-fabric", "train") from error
    if device not in ("auto", "cpu", "gpu"):
        raise UsageError(f"no device is called {device!r}; choose auto, cpu or gpu")
    if device == "gpu" and not torch.cuda.is_available():
        raise UsageError("there is no GPU that torch can use; leave --device out or give --device cpu")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    accelerator = "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*srun.*")  # advice for a scheduler that is not in use
        fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            precision=cast(Literal["32-true"], precision),
        )
        try:
            fabric.launch()
        except (RuntimeError, ValueError) as error:
            raise StreamsegError(
                f"the {world} processes of this run cannot find one another: {error}; "
                "check torchrun's options"
            ) from error
    return fabric


def fastest_precision(device: str = "auto") -> Precision:
    """``bf16-mixed`` where the GPU, or the processor if training runs there, computes in bfloat16.

    Elsewhere ``32-true``, since bfloat16 is slower there than float32. ``device`` as in :func:`make_fabric`.
    """
    if device != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if {"amx_bf16", "avx512_bf16"} & {*this_processor().features} else "32-true"


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within the block, this thread, torch's other threads and those that it starts flush denormals to 0.

    A collapsed net computes with little else, at a third of the speed. Every thread has a setting of its own:
    with torch's other threads left out, they stay slow, and a result depends on which thread computed it.
    """
    _set_flush_denormal(True)
    try:
        yield
    finally:
        _set_flush_denormal(False)


def _set_flush_denormal(flush: bool) -> None:
    """Flush denormals in this thread and, if torch runs on GNU OpenMP as on Linux, in those that compute."""
    torch.set_flush_denormal(flush)
    library = _openmp()
    if library is not None:
        region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: bool(torch.set_flush_denormal(flush)))
        library.GOMP_parallel(region, None, torch.get_num_threads(), 0)


def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch brings and computes with; None if it is another one."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        with suppress(OSError):
            library = ctypes.CDLL(str(path))  # loaded already: the same one, with the same threads
            if hasattr(library, "GOMP_parallel"):
                library.GOMP_parallel.argtypes = (
                    ctypes.c_void_p,
                    ctypes.c_void_p,
                    ctypes.c_uint,
                    ctypes.c_uint,
                )
                library.GOMP_parallel.restype = None
                return library
    return None
