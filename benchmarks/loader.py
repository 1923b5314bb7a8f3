"""How fast the loader of training images is by itself: no net, no augmentation.

    python benchmarks/loader.py DATA [--sizes 96x112,192x224] [--batch 8] [--rounds 5] [--device cpu]

prints one JSON object. For each input size:

- ``decode``  images a second of ``cache_samples``: reading, decoding and letterboxing the data set once
- ``open``    seconds to find the kept cache again and to check it
- ``memory``, ``mapped``  images a second of ``load_batches`` over a shuffled pass, from memory and from the
  memory-mapped cache: gathered as bytes, float32 on the device (synchronised at the end)

A round is one pass over all images; the two kinds alternate, the first round warms up and is not counted.
``cpu`` is images per second of processor time, of all threads: what it costs when other work holds the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from streamseg.core.types import InputSpec
from streamseg.datasets import Dataset, open_dataset
from streamseg.training.data import Cache, cache_samples, load_batches


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", default="96x112,192x224")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    data = open_dataset(options.data)
    result = {
        "what": "loader",
        "date": time.strftime("%Y-%m-%d"),
        "data": options.data.resolve().name,
        "images": len(data),
        "batch": options.batch,
        "rounds": options.rounds,
        "device": options.device,
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sizes": {size: measure(data, size, options) for size in options.sizes.split(",")},
    }
    print(json.dumps(result, indent=1))


def measure(data: Dataset, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one input size."""
    height, width = map(int, size.split("x"))
    spec = InputSpec(height, width, mean=0.25, std=0.25, threshold=0.5)
    with tempfile.TemporaryDirectory() as folder:
        started = Clock()
        memory = cache_samples(data, spec)
        decode = started.rates(len(data))
        cache_samples(data, spec, folder=Path(folder))
        started = Clock()
        mapped = cache_samples(data, spec, folder=Path(folder))
        found: dict[str, Any] = {"decode": decode, "open": round(started.wall(), 3)}
        rates: dict[str, list[dict[str, float]]] = {"memory": [], "mapped": []}
        for _ in range(options.rounds + 1):
            for name, cache in (("memory", memory), ("mapped", mapped)):
                rates[name].append(one_pass(cache, options.batch, options.device))
    for name, rounds in rates.items():
        found[name] = {kind: round(statistics.median(r[kind] for r in rounds[1:])) for kind in rounds[0]}
    return found


def one_pass(cache: Cache, batch: int, device: str) -> dict[str, float]:
    """Rates of one shuffled pass over all images."""
    plan = torch.split(torch.randperm(len(cache)), batch)
    started = Clock()
    count = sum(len(loaded.images) for loaded in load_batches(cache, plan, device))
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return started.rates(count)


class Clock:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self.began, self.worked = time.monotonic_ns(), time.process_time_ns()

    def wall(self) -> float:
        return (time.monotonic_ns() - self.began) / 1e9

    def rates(self, images: int) -> dict[str, float]:
        """Images per second of wall time and of processor time."""
        cpu = max(time.process_time_ns() - self.worked, 1) / 1e9
        return {"wall": round(images / self.wall()), "cpu": round(images / cpu)}


if __name__ == "__main__":
    main()
