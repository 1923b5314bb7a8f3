"""Benchmarks: interleaved timing, the machine's limits, the nets' arithmetic, and the provenance of results.

Importing a module of this package loads neither torch nor OpenVINO; measuring with them does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.benchmark.nets.custom import measure_engines

__all__ = ["measure_engines"]


def __getattr__(name: str) -> Any:
    """Import the public function when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from streamseg.benchmark.nets.custom import measure_engines

    return measure_engines
