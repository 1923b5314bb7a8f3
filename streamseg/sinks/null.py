"""A sink that keeps nothing: for benchmarks, and to see the latencies of everything else."""

from __future__ import annotations

from pathlib import Path

from streamseg.core.types import Result


class NullSink:
    """Counts results and drops them."""

    name = "null"
    path: Path | None = None

    def __init__(self) -> None:
        self.frames = 0
        """Results received."""

    def write(self, result: Result) -> None:
        """Count one result."""
        self.frames += 1

    def close(self) -> None:
        """Nothing to finish."""
