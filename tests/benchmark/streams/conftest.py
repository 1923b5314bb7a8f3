"""Tests here take no time for the machine's limits, and none for a clip."""

import pytest

from streamseg.benchmark.streams import bench
from tests.benchmark.small_kernels import small_kernels
from tests.benchmark.streams.test_run import CLIP

__all__ = ["small_kernels"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "open_clip", lambda source, folder: CLIP)
