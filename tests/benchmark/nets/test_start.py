"""Starts in processes of their own: time to the first mask, and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamseg.backends.loading import DEFAULT
from streamseg.benchmark.nets.start import gpu_free_bytes, peak_bytes, start
from streamseg.benchmark.nets.variants import InputShape, VariantBuilder, VariantSpec
from streamseg.core.errors import EngineError, StallError
from streamseg.phantom import render_still


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "frame.npy"
    np.save(path, render_still(1, nerve=True).image)
    return path


def test_the_shipped_engine_starts(image: Path) -> None:
    found = start({"engine": DEFAULT}, image, threads=1, limit_s=250)
    assert 0 < found.warm_s < 250
    assert found.peak_bytes is None or found.peak_bytes > 3e7
    assert found.peak_gpu_bytes is None


def test_one_that_fails_or_takes_too_long_says_so(image: Path) -> None:
    with pytest.raises(EngineError, match=r"failed with exit code 1: .*no engine is called 'none'"):
        start({"engine": "none"}, image, threads=1, limit_s=250)
    with pytest.raises(StallError, match=r"not done after 0\.01 s"):
        start({"engine": DEFAULT}, image, threads=1, limit_s=0.01)


def test_this_process_knows_what_it_holds() -> None:
    held = peak_bytes()
    assert held is None or held > 1e7
    assert gpu_free_bytes() is None or gpu_free_bytes() > 0  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_torch_starts_from_the_weights(image: Path, tmp_path: Path, batch: int) -> None:
    pytest.importorskip("torch")
    shape = InputShape("unet", 32, 48, batch)
    made, _ = VariantBuilder(tmp_path, 1).make(shape, [VariantSpec("eager", "fp32", folded=False)])
    found = start(made[0].start_task, image, threads=1, limit_s=250)
    assert found.warm_s > 0
    assert found.peak_bytes is None or found.peak_bytes > 6e7
