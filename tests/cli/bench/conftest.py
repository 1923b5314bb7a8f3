"""Tests here take no time for the machine's limits."""

from tests.benchmark.fakes import small_kernels

__all__ = ["small_kernels"]
