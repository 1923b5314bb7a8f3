"""Limits of the machine that take no time, for tests of what measures them beside something else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamseg.benchmark.limits import Kernel


@pytest.fixture(autouse=True, scope="module")
def small_kernels() -> Iterator[None]:
    """One kernel in place of the real ones, which take seconds."""
    kernel = Kernel("small product", "fp32", 1e6, lambda: sum(range(1000)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamseg.benchmark.limits.kernels_of", lambda threads, gpu: [kernel])
        yield
