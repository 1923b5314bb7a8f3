"""A process that does what a user's first mask takes, and says when it had it and how much memory it held.

    python -m streamseg.benchmark.nets.child '{"engine": NAME_OR_FOLDER, "image": FILE, "threads": 2}'
    python -m streamseg.benchmark.nets.child '{"checkpoint": FILE, "folded": true, ..., "image": FILE, ...}'

``image`` is a frame as a .npy file. Prints a JSON object: ``mask_ns`` (monotonic, which all processes share),
``peak_bytes`` after some more calls, and ``gpu_free_bytes`` then; null where there is nothing to say.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.core.types import Backend

CALLS = 3
"""After the first: by then a library has all the memory that it wants."""


def main() -> None:
    """Command line."""
    task = json.loads(sys.argv[1])
    import numpy as np

    from streamseg.core.types import Frame
    from streamseg.segmentation.preprocess import to_tensor
    from streamseg.segmentation.segmenter import Segmenter

    backend = load(task)
    frame = Frame(np.load(task["image"]), 0, time.monotonic_ns())
    batch = int(getattr(backend, "batch", 1))
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
    """An engine by name or folder, or a checkpoint by torch."""
    if "engine" in task:
        from streamseg.backends.loading import load_backend

        return load_backend(task["engine"], threads=task["threads"])
    from streamseg.benchmark.torch_engine import TorchEngine
    from streamseg.engines.checkpoint import read_checkpoint

    names = ("folded", "device", "precision", "batch", "threads")
    return TorchEngine(read_checkpoint(task["checkpoint"]), **{name: task[name] for name in names})


def peak_bytes() -> int | None:
    """The process's largest resident set so far (Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else None


def gpu_free_bytes() -> int | None:
    """Free memory of the GPU, as the driver counts; None where this process uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.mem_get_info()[0])


if __name__ == "__main__":
    main()
