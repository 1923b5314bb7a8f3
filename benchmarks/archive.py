"""Frames per second of ``streamseg archive`` on this machine, beside the bare engine.

For every number of workers the whole command runs on the same clips into a new folder. The rate is the one
that the command reports, with the time in which engines load: give enough clips that it does not matter.
``bare`` is the engine alone on all cores, on prepared frames, with as many frames at a time as it has lanes.
``memory`` is the largest resident set of a worker, in MB (Linux).

    python -m benchmarks.archive recordings --workers 1,2,4 [--engine NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.backends import load_backend
from streamseg.core.engine_info import EngineInfo
from streamseg.core.files import write_json
from streamseg.core.hardware import this_processor, usable_cores
from streamseg.reporting.formatting import table

BARE_S = 10.0


def bare_rate(engine: str | None) -> float:
    """Frames per second of the engine alone, on all cores."""
    backend = load_backend(engine, throughput=True)
    lanes = EngineInfo.of(backend).lanes
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((1, 1, backend.spec.height, backend.spec.width)).astype(np.float32)
    ends = time.monotonic() + BARE_S

    def infer(_: int) -> int:
        count = 0
        while time.monotonic() < ends:
            backend.infer(tensor)
            count += 1
        return count

    for _ in range(3):
        backend.infer(tensor)
    started = time.monotonic()
    ends = started + BARE_S
    with ThreadPoolExecutor(lanes) as pool:
        frames = sum(pool.map(infer, range(lanes)))
    seconds = time.monotonic() - started
    backend.close()
    return frames / seconds


def children_mb(pid: int) -> float:
    """Largest resident set among the processes that a process started, in MB; 0 where /proc is missing."""
    largest = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, StopIteration, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                lines = (folder / "status").read_text().splitlines()
                line = next(line for line in lines if line.startswith("VmHWM"))
                largest = max(largest, int(line.split()[1]) / 1000)
    return largest


def measure(sources: list[str], workers: int, engine: str | None) -> dict[str, Any]:
    """One run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "streamseg", "archive", *sources, "--out", folder, "--json"]
        call += ["--workers", str(workers), *(["--engine", engine] if engine else [])]
        memory = 0.0
        over = threading.Event()
        process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)

        def watch() -> None:
            nonlocal memory
            while not over.wait(0.5):
                memory = max(memory, children_mb(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, _ = process.communicate()
        over.set()
        watcher.join()
    run = json.loads(out)["run"]
    return {"workers": workers, **run, "fps": run["frames"] / run["seconds"], "worker_mb": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--engine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bare = bare_rate(options.engine)
    runs = [measure(options.sources, int(n), options.engine) for n in options.workers.split(",")]
    rows = [
        [run["workers"], run["clips"], run["frames"], run["fps"], run["fps"] / bare, run["worker_mb"]]
        for run in runs
    ]
    print(f"bare engine: {bare:.1f} frames/s on {usable_cores()} cores of {this_processor().processor}")
    print("\n".join(table(["workers", "clips", "frames", "frames/s", "of bare", "MB per worker"], rows)))
    if options.json is not None:
        processor = this_processor().processor
        write_json(
            options.json, {"processor": processor, "cores": usable_cores(), "bare": bare, "runs": runs}
        )


if __name__ == "__main__":
    main()
