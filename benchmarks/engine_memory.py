"""Loads one variant, runs it three times and prints the most bytes of memory that the process held.

    python -m benchmarks.engine_memory '{"folder": ENGINE, "shape": [1, 1, 192, 256], "threads": 2}'

A process of its own for :mod:`benchmarks.engines`, since what one variant holds cannot be told apart from
the others' in a process that runs them all. Python and the libraries that a variant needs are part of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

CALLS = 3


def main() -> None:
    """Command line."""
    task = json.loads(sys.argv[1])
    tensor = np.random.default_rng(0).standard_normal(task["shape"], np.float32)
    run = engine(task) if "folder" in task else eager(task)
    for _ in range(CALLS):
        run(tensor)
    print(peak())


def engine(task: dict[str, Any]) -> Any:
    """An engine's infer, loaded without what only building needs."""
    from importlib import import_module

    from streamseg.backends.manifest import read_manifest

    folder = Path(task["folder"])
    manifest, fingerprint = read_manifest(folder)
    module = import_module(f"streamseg.backends.{manifest.backend}")
    return module.load(folder, manifest, fingerprint, threads=task["threads"]).infer


def eager(task: dict[str, Any]) -> Any:
    """A torch net as a function of an array."""
    import torch

    from benchmarks.engine_variants import torch_net

    torch.set_num_threads(task["threads"])
    net = torch_net(task["net"], task["folded"], task["form"])

    @torch.inference_mode()
    def run(tensor: Any) -> object:
        return torch.sigmoid(net(torch.from_numpy(tensor))).numpy()

    return run


def peak() -> int:
    """The process's largest resident set so far, bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not say how much memory a process held")


if __name__ == "__main__":
    main()
