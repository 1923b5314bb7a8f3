"""One small clip for all tests of the benchmark."""

from pathlib import Path

import pytest

from streamseg.benchmark.clip import Clip
from tests.benchmark.fakes import no_charts, read_clip, write_clip

__all__ = ["no_charts"]


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H.264 file of 12 frames."""
    return write_clip(tmp_path_factory.mktemp("clip") / "small.mp4")


@pytest.fixture(scope="session")
def clip(clip_path: Path) -> Clip:
    """The same, in memory."""
    return read_clip(clip_path)
