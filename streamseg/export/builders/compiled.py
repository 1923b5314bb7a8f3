"""Builds engines for torch.compile: the folded weights and the compiler's cache for them."""

from __future__ import annotations

import json
from pathlib import Path

from streamseg.backends.compiled import CACHE, OPTIONS, PRECISIONS, WEIGHTS, CompiledBackend, import_torch
from streamseg.core.errors import EngineError
from streamseg.core.files import write_whole
from streamseg.core.hardware import versions_of
from streamseg.engines.checkpoint import write_checkpoint
from streamseg.export.contract import BuildOrder, BuildResult


def build(order: BuildOrder, folder: Path) -> BuildResult:
    """Compile a net for this machine's GPU, or for the processor if torch finds none.

    Raises EngineError for int8, for fp16 on the processor and for what torch cannot compile, and MissingExtra
    without torch.
    """
    torch = import_torch()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _check(order.precision, device)
    checkpoint = order.checkpoint
    where = torch.cuda.get_device_name() if device == "cuda" else "the processor"
    order.say(f"compiling {checkpoint.net} for {where}, trying kernels; this takes minutes")
    from torch.compiler._cache import CacheArtifactManager

    # Only what this engine needs, not what else was compiled in this process.
    with CacheArtifactManager.with_fresh_cache():
        info = checkpoint.info(
            checkpoint.net, "compiled", precision=order.precision, batch=order.batch, device=device
        )
        backend = CompiledBackend(checkpoint, info)
        found = backend.precision_found()
        backend.close()
        saved = torch.compiler.save_cache_artifacts()
    if found.get(order.precision, 0) < 1:
        raise EngineError(
            f"torch {torch.__version__} compiled {checkpoint.net} with layers in {found}, asked for "
            f"{order.precision}; use another precision"
        )
    write_checkpoint(
        folder / WEIGHTS,
        checkpoint.weights,
        net=checkpoint.net,
        folded=checkpoint.folded,
        trained=checkpoint.trained,
        spec=checkpoint.spec,
    )
    write_whole(folder / CACHE, saved[0] if saved else b"")
    write_whole(folder / OPTIONS, (json.dumps({"device": device}) + "\n").encode())
    return BuildResult(versions_of(("torch", "triton") if device == "cuda" else ("torch",)))


def _check(precision: str, device: str) -> None:
    """Raise EngineError, with the remedy, for a precision that is not available."""
    if precision not in PRECISIONS:
        raise EngineError(
            f"torch.compile computes in {', '.join(PRECISIONS)}, received {precision}; for {precision} use "
            "--backend tensorrt on a GPU, openvino on the processor"
        )
    if device == "cpu" and precision == "fp16":
        raise EngineError(
            "torch.compile computes in fp16 on a GPU only, and torch finds none; take fp32 or bf16, "
            "or check nvidia-smi and that torch is built for CUDA"
        )
