"""How long ``streamseg archive`` takes for millions of frames on many machines: arithmetic and simulation.

Frames and seconds per clip are those that a real run recorded in its results. Clips are drawn from them with
replacement until the frames are enough, and given one by one to the worker that is free first, as the
scheduler does. One machine dies in the middle and does not come back; its clips in progress start again.

``even`` is arithmetic: all seconds divided by all workers. ``hours`` is the simulated end, which adds the
start of the engines, one dispatch after another by the driver, the dead machine, and the wait for the last
clips. ``busy`` is the share of the workers' time that went into clips.

    python -m benchmarks.archive_scale results --frames 10000000 --machines 1,10,100 [--workers 1]
"""

from __future__ import annotations

import argparse
import heapq
from pathlib import Path

import numpy as np

from streamseg.archive.records import read_about
from streamseg.reporting.formatting import table

DISPATCH_S = 0.005
"""Time of the driver for each clip; generous: a pipe or an actor call takes less."""


def simulate(seconds: np.ndarray, workers: int, per_machine: int, start_s: float, lost: bool) -> float:
    """Seconds until the last clip is done; with ``lost`` the last machine dies when half are given."""
    free = [(start_s, worker) for worker in range(workers)]
    heapq.heapify(free)
    driver = end = 0.0
    dead = range(workers - per_machine, workers) if lost else range(0)
    running: dict[int, float] = {}
    queue = list(seconds[::-1])
    given, half = 0, len(seconds) // 2
    died = False
    while queue:
        ready, worker = heapq.heappop(free)
        if died and worker in dead:
            continue
        driver = max(driver, ready) + DISPATCH_S
        length = float(queue.pop())
        running[worker] = length
        heapq.heappush(free, (driver + length, worker))
        given += 1
        if lost and not died and given >= half:
            died = True
            queue += [running[w] for w in dead if w in running]
    for ends, worker in free:
        if not (died and worker in dead):
            end = max(end, ends)
    return end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--machines", default="1,10,100")
    parser.add_argument("--workers", type=int, default=1, help="workers per machine in the recorded run")
    parser.add_argument("--start", type=float, default=30.0, help="seconds to start a worker")
    options = parser.parse_args()
    about = [read_about(path) for path in sorted((options.results / "clips").glob("*.parquet"))]
    if not about:
        raise SystemExit(f"no clips in {options.results}; run streamseg archive first")
    recorded = np.array([(item["frames"], item["seconds"]) for item in about])
    rng = np.random.default_rng(0)
    mean = recorded[:, 0].mean()
    drawn = recorded[rng.integers(len(recorded), size=int(1.2 * options.frames / mean) + 100)]
    drawn = drawn[: int(np.searchsorted(np.cumsum(drawn[:, 0]), options.frames)) + 1]
    frames, seconds = drawn[:, 0].sum(), drawn[:, 1]
    print(
        f"{len(recorded)} clips recorded, {recorded[:, 0].sum():.0f} frames, "
        f"{recorded[:, 0].sum() / recorded[:, 1].sum():.1f} frames/s per worker; "
        f"drawn: {len(drawn)} clips, {frames:.0f} frames"
    )
    rows = []
    for machines in map(int, options.machines.split(",")):
        workers = machines * options.workers
        even = seconds.sum() / workers
        whole = simulate(seconds, workers, options.workers, options.start, False)
        lost = simulate(seconds, workers, options.workers, options.start, True) if machines > 1 else None
        rows.append(
            [
                machines,
                workers,
                even / 3600,
                whole / 3600,
                100 * even / whole,
                lost and lost / 3600,
                frames / whole,
            ]
        )
    head = ["machines", "workers", "even, h", "hours", "busy, %", "one machine dies, h", "frames/s"]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
