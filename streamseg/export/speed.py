"""How fast an engine is where it was built, and beside the engine that ships with the package."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

from streamseg.backends.loading import DEFAULT, WEIGHTS, load_backend
from streamseg.core.types import Backend, Tensor
from streamseg.engines.manifest import read_manifest
from streamseg.phantom import render_still
from streamseg.segmentation.preprocess import to_tensor

WARM_UP, ROUNDS = 3, 25


def measure_speed(engine: Backend) -> dict[str, Any]:
    """Values for the manifest's ``speed``: ``ms``, the median of a call on a phantom frame.

    Where it takes the same input as the shipped engine, the two are called in turn, and ``ratio`` is the
    median of the engine's time in parts of the shipped one's, ``shipped_ms`` the median of that: a ratio of
    neighbours holds on a busy machine too. Takes about a second on two cores.
    """
    batch = int(getattr(engine, "batch", 1))
    image = to_tensor(render_still(1, nerve=True).image, engine.spec)
    tensor = np.ascontiguousarray(np.repeat(image, batch, axis=0))
    if batch > 1 or read_manifest(WEIGHTS / DEFAULT)[0].spec != engine.spec:
        return {"ms": round(median(_times([(engine, tensor)])[0]), 3), "calls": ROUNDS}
    shipped = load_backend(DEFAULT)
    try:
        own, others = _times([(engine, tensor), (shipped, tensor)])
    finally:
        shipped.close()
    return {
        "ms": round(median(own), 3),
        "calls": ROUNDS,
        "shipped_ms": round(median(others), 3),
        "ratio": round(median(a / b for a, b in zip(own, others, strict=True)), 4),
    }


def _times(engines: list[tuple[Backend, Tensor]]) -> list[list[float]]:
    """Milliseconds of each engine's counted calls, the engines taking turns."""
    times: list[list[float]] = [[] for _ in engines]
    for number in range(WARM_UP + ROUNDS):
        for (engine, tensor), taken in zip(engines, times, strict=True):
            began = time.monotonic_ns()
            engine.infer(tensor)
            if number >= WARM_UP:
                taken.append((time.monotonic_ns() - began) / 1e6)
    return times
