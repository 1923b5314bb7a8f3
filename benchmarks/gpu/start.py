"""Times a process from its start to the first mask: cold (the engine is built) and warm (it exists).

    python -m benchmarks.gpu.start BACKEND PRECISION NET HxW FOLDER STARTED_NS

is the process that :func:`measure_start` starts. It builds an engine into an empty folder, and loads one from
a folder that holds it. torch's compiler gets an empty cache of its own each time, so that a warm start finds
only what the engine holds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.backends.loading import RUNNERS
from streamseg.benchmark.python_process import run_python
from streamseg.core.errors import EngineError, StallError
from streamseg.engines.manifest import FILE_NAME, read_manifest
from streamseg.export.build import build_engine
from streamseg.export.source import resolve


@dataclass(frozen=True, slots=True)
class Asked:
    """An engine to start."""

    backend: str
    precision: str
    net: str
    size: tuple[int, int]


def measure_start(asked: Asked, *, warm: int = 2, limit_s: float = 300.0) -> dict[str, Any]:
    """Seconds of each stage: one cold start, then ``warm`` warm ones.

    ``absent`` with the reason if the engine cannot be built, or all takes longer than ``limit_s``.
    """
    stages: dict[str, Any] = asdict(asked)
    until = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "engine"
        folder.mkdir()
        try:
            stages["cold"] = _start(asked, folder, until)
            stages["warm"] = [_start(asked, folder, until) for _ in range(warm)]
        except StallError:
            stages["absent"] = f"took longer than {limit_s:.0f} s"
        except EngineError as error:
            stages["absent"] = str(error)
    return stages


def _start(asked: Asked, folder: Path, until: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as caches:
        environment = {
            "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
            "TRITON_CACHE_DIR": f"{caches}/triton",
        }
        call = ["-m", "benchmarks.gpu.start", asked.backend, asked.precision, asked.net]
        call += [f"{asked.size[0]}x{asked.size[1]}", str(folder), str(time.monotonic_ns())]
        limit_s = max(1.0, until - time.monotonic())
        answer = run_python(call, limit_s=limit_s, environment=environment)
    found: dict[str, float] = json.loads(answer.strip().splitlines()[-1])
    return found


def main(arguments: list[str]) -> None:
    """Build or load, give one mask, and print the seconds since the process was started at each stage."""
    started_ns = int(arguments.pop())

    def since() -> float:
        return round((time.monotonic_ns() - started_ns) / 1e9, 3)

    import torch  # noqa: F401

    stages = {"imported": since()}
    backend, precision, net, size, place = arguments
    folder = Path(place)
    if not (folder / FILE_NAME).is_file():
        height, _, width = size.partition("x")
        build_engine(resolve(net, (int(height), int(width))), backend, precision, folder)
        stages["built"] = since()
    manifest, fingerprint = read_manifest(folder)
    engine = import_module(RUNNERS[backend]).load(folder, manifest, fingerprint)
    stages["loaded"] = since()
    engine.mask(np.random.default_rng(0).integers(0, 256, (420, 580), np.uint8))
    stages["first_mask"] = since()
    print(json.dumps(stages))


if __name__ == "__main__":
    main(sys.argv[1:])
