"""The old place of :func:`streamseg.benchmark.measure_engines`, for one release."""

from __future__ import annotations

from streamseg.benchmark.nets.custom import measure_engines

__all__ = ["measure_engines"]
