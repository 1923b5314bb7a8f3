"""Runs nets by torch.compile: on NVIDIA GPUs without TensorRT, and on the processor for comparison.

An engine holds the folded weights and the compiler's cache: kernels and measured choices. A warm start traces
the net again, finds all of them in the cache, and tunes nothing. Loading that cache can run any code, so such
an engine is never chosen by default: accept one only from people whose programs you would run.
(A package of AOTInductor would start sooner, but building one takes CUDA's headers, which torch's wheels
lack.)
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg.backends.cuda.backend import CudaBackend
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.files import parse_json
from streamseg.core.hardware import thread_count
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.manifest import Manifest, read_verified

if TYPE_CHECKING:
    import torch

    from streamseg.backends.cuda.runner import Forward

WEIGHTS, CACHE, OPTIONS = "weights.safetensors", "compiler-cache.bin", "options.json"
"""An engine's files: the folded weights, torch's cache artefacts, and the device it was built for."""
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""torch's type of each precision that this back end computes in."""


class CompiledBackend(CudaBackend):
    """A net compiled by torch. The types of its layers are those of their results in the compiled graph."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        info: EngineInfo,
    ) -> None:
        """Compile a net and run it once, on ``info.device``, ``cuda`` or ``cpu``, in ``info.precision``.

        Raises EngineError if that fails. Takes seconds if torch's caches know the net, else minutes.
        """
        import torch

        from streamseg.backends.cuda.runner import CudaRunner, translated, usable_device

        self.info = info
        kind: torch.dtype = getattr(torch, PRECISIONS[str(info.precision)])
        usable_device(info.device, info.name)
        with translated(info.name), _quiet():
            forward, self.shares = compile_net(checkpoint, kind, info.batch, info.device)
            self.runner = CudaRunner(forward, info, dtype=kind)
            # Compiles: what fails does so here, not at the first frame.
            self.runner.infer(np.zeros((info.batch, 1, self.spec.height, self.spec.width), np.float32))


def load(
    folder: Path,
    manifest: Manifest,
    fingerprint: str,
    *,
    threads: int | None = None,
    throughput: bool = False,
) -> CompiledBackend:
    """Load an engine folder whose manifest fits this machine.

    ``threads`` (None follows STREAMSEG_THREADS) sets torch's number of threads, for the whole process, if the
    engine runs on the processor; ``throughput`` changes nothing, since a frame has the whole device either
    way. Raises EngineError if it is damaged, does not fit or there is no GPU, UsageError for an invalid
    number of threads, and MissingExtra without torch.
    """
    files = {name: read_verified(folder, manifest, name) for name in (WEIGHTS, CACHE, OPTIONS)}
    torch = import_torch()
    try:
        from safetensors.numpy import load as arrays

        device = str(parse_json(files[OPTIONS])["device"])
        weights = {key: array.astype(np.float32) for key, array in arrays(files[WEIGHTS]).items()}
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise EngineError(f"engine {folder} cannot be read ({error!r}); export it again") from error
    count = thread_count(threads)
    if device == "cpu" and count is not None:
        torch.set_num_threads(count)
    if files[CACHE]:
        try:
            torch.compiler.load_cache_artifacts(files[CACHE])  # unpickles: runs whatever the file says
        except Exception as error:  # anything may come out of a damaged one
            raise EngineError(f"engine {folder} cannot be read ({error!r}); export it again") from error
    checkpoint = Checkpoint(
        net=manifest.net,
        folded=manifest.folded,
        trained=manifest.trained,
        spec=manifest.spec,
        weights=weights,
        sha256=manifest.checkpoint_sha256,
    )
    return CompiledBackend(checkpoint, manifest.info(fingerprint, device=device))


def compile_net(
    checkpoint: Checkpoint, dtype: torch.dtype, batch: int, device: str
) -> tuple[Forward, dict[str, float]]:
    """The net as a function that compiles itself in its first call, and the shares of its layers by type."""
    import torch

    from streamseg.nets.inference import inference_net

    net = inference_net(checkpoint).to(device, dtype)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    example = torch.zeros(
        (batch, 1, checkpoint.spec.height, checkpoint.spec.width), dtype=dtype, device=device
    )
    # Each engine has a graph of its own: torch would otherwise take the engines of a process for variants of
    # one function, and give up after a few.
    with torch.no_grad():
        program = torch.export.export(net, (example,))
    # Its own CUDA graphs stay off: the runner's graph includes upload and download.
    options: dict[str, Any] = {"max_autotune": True, "triton.cudagraphs": False}
    if device == "cpu":
        options["compile_threads"] = 1  # a pool of processes would outlive the build
    else:
        options["coordinate_descent_tuning"] = True
    compiled = torch.compile(program.module(), fullgraph=True, dynamic=False, options=options)
    return compiled, type_shares(program.graph)


def type_shares(graph: torch.fx.Graph) -> dict[str, float]:
    """Share of a graph's operators, 0..1, by the type of their results; only real numbers count."""
    import torch

    names = {getattr(torch, kind): precision for precision, kind in PRECISIONS.items()}
    values = (node.meta.get("val") for node in graph.nodes if node.op == "call_function")
    types = [value.dtype for value in values if isinstance(value, torch.Tensor)]
    counts = Counter(names.get(kind, "other") for kind in types if kind.is_floating_point)
    return {name: count / counts.total() for name, count in sorted(counts.items())}


def import_torch() -> Any:
    """Import torch. Raises MissingExtra."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("the compiled back end", "torch", "tensorrt") from error
    return torch


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the tables of torch's compiler and the warnings about its own code."""
    from torch._inductor import select_algorithm

    before = select_algorithm.PRINT_AUTOTUNE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        select_algorithm.PRINT_AUTOTUNE = False
        try:
            yield
        finally:
            select_algorithm.PRINT_AUTOTUNE = before
