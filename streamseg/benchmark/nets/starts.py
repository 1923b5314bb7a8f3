"""Starts of a process: from its call to the first mask, and the most memory that it held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.benchmark.nets.child import gpu_free_bytes
from streamseg.benchmark.provenance import ROOT
from streamseg.core.errors import EngineError, StallError


@dataclass(frozen=True, slots=True)
class Start:
    """What one process took."""

    warm_s: float
    """From its call to its first mask, everything that is cached in place."""
    peak_bytes: int | None
    """Largest resident set, Python and libraries included."""
    peak_gpu_bytes: int | None
    """GPU memory that was in use more than before it, its context and libraries included."""


def start(task: Mapping[str, Any], image: Path, *, threads: int, limit_s: float) -> Start:
    """Start a process that loads a subject (its ``child``) and segments a frame (a .npy file).

    Raises EngineError where it fails, StallError where it takes longer than ``limit_s``.
    """
    words = json.dumps({**task, "image": str(image), "threads": threads})
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    free_bytes = gpu_free_bytes()
    began_ns = time.monotonic_ns()
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "streamseg.benchmark.nets.child", words],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired:
        raise StallError(f"a process of its own gave no mask within {limit_s:g} s") from None
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or ["it said nothing"]
        raise EngineError(f"a process of its own failed: {said[-1].strip()[:200]}")
    found = json.loads(answer.stdout.splitlines()[-1])
    left = found["gpu_free_bytes"]
    return Start(
        warm_s=(found["mask_ns"] - began_ns) / 1e9,
        peak_bytes=found["peak_bytes"],
        peak_gpu_bytes=None if left is None or free_bytes is None else max(0, free_bytes - left),
    )
