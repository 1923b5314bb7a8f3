"""The start of a process: from its call to the first mask, and the largest memory that it held.

    python -m streamseg.benchmark.nets.start '{"engine": NAME_OR_FOLDER, "image": FILE, "threads": 2}'
    python -m streamseg.benchmark.nets.start '{"checkpoint": FILE, "folded": true, ..., "image": FILE, ...}'

is the process that :func:`start` starts: it does what a user's first mask takes. ``image`` is a frame as a
.npy file. It prints a JSON object: ``mask_ns`` (monotonic, which all processes share), ``peak_bytes`` after
some more calls, and ``gpu_free_bytes`` then; null if unknown.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.core.types import Backend

CALLS = 3
"""After the first: by then a library holds all the memory that it needs."""


@dataclass(frozen=True, slots=True)
class Start:
    """What one process took."""

    warm_s: float
    """From its call to its first mask, with everything cached."""
    peak_bytes: int | None
    """Largest resident set, with Python and libraries."""
    peak_gpu_bytes: int | None
    """GPU memory in use beyond what was in use before, with its context and libraries."""


def start(task: Mapping[str, Any], image: Path, *, threads: int, limit_s: float) -> Start:
    """Start a process that loads an engine and segments a frame (a .npy file).

    ``task`` names the engine, or a checkpoint and the parameters of torch's back end. Raises EngineError if
    it fails, StallError if it takes longer than ``limit_s``.
    """
    from streamseg.benchmark.python_process import (
        run_python,  # here: the process is timed from its imports on
    )

    words = json.dumps({**task, "image": str(image), "threads": threads})
    free_bytes = gpu_free_bytes()
    began_ns = time.monotonic_ns()
    answer = run_python(["-m", "streamseg.benchmark.nets.start", words], limit_s=limit_s)
    found = json.loads(answer.splitlines()[-1])
    left = found["gpu_free_bytes"]
    return Start(
        warm_s=(found["mask_ns"] - began_ns) / 1e9,
        peak_bytes=found["peak_bytes"],
        peak_gpu_bytes=None if left is None or free_bytes is None else max(0, free_bytes - left),
    )


def main() -> None:
    """The process: segment the frame, and print what it took."""
    task = json.loads(sys.argv[1])
    import numpy as np

    from streamseg.core.engine_info import EngineInfo
    from streamseg.core.types import Frame
    from streamseg.segmentation.preprocess import to_tensor
    from streamseg.segmentation.segmenter import Segmenter

    backend = load(task)
    frame = Frame(np.load(task["image"]), 0, time.monotonic_ns())
    batch = EngineInfo.of(backend).batch
    tensor = np.repeat(to_tensor(frame.image, backend.spec), batch, axis=0)
    if batch == 1:
        Segmenter(backend).segment(frame)
    else:
        backend.infer(tensor)
    mask_ns = time.monotonic_ns()
    for _ in range(CALLS):
        backend.infer(tensor)
    print(json.dumps({"mask_ns": mask_ns, "peak_bytes": peak_bytes(), "gpu_free_bytes": gpu_free_bytes()}))


def load(task: dict[str, Any]) -> Backend:
    """An engine by name or folder, or a checkpoint run by torch."""
    if "engine" in task:
        from streamseg.backends.loading import load_backend

        return load_backend(task["engine"], threads=task["threads"])
    from streamseg.backends.eager import EagerBackend
    from streamseg.engines.checkpoint import read_checkpoint

    names = ("folded", "device", "precision", "batch", "threads")
    return EagerBackend(read_checkpoint(task["checkpoint"]), **{name: task[name] for name in names})


def peak_bytes() -> int | None:
    """The process's largest resident set so far (Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else None


def gpu_free_bytes() -> int | None:
    """Free memory of the GPU, as the driver counts it; None if this process does not use one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.mem_get_info()[0])


if __name__ == "__main__":
    main()
