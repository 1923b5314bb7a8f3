"""The loop that one writes in twenty lines finds what ours finds."""

from pathlib import Path

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.peers.plain_loop import PlainModel, plain_loop
from streamseg.capture import open_source
from streamseg.core.errors import SinkError, SourceError
from streamseg.core.types import Frame, Roi
from streamseg.segmentation.segmenter import Segmenter
from tests.benchmark.meddling import SPEC
from tests.benchmark.small_clip import HEIGHT, REGION, WIDTH, write_clip


@pytest.mark.parametrize("roi", [REGION, Roi(0, 0, 60, 90), Roi(3, 5, 101, 33), None])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_its_masks_are_ours(roi: Roi | None, channels: tuple[int, ...]) -> None:
    backend = FakeBackend(SPEC)
    image = np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH, *channels), np.uint8)
    ours = Segmenter(backend, roi, withhold=False).segment(Frame(image, 0, 0)).mask
    found = PlainModel(backend, roi).mask(image)
    assert ours.any()
    assert np.array_equal(found, ours)


def test_it_feeds_the_net_as_ours_does() -> None:
    fed = []

    def remember(tensor):
        fed.append(tensor.copy())
        return np.zeros((SPEC.height, SPEC.width), np.float32)

    backend = FakeBackend(SPEC, remember)
    image = np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    PlainModel(backend, REGION).mask(image)
    assert np.abs(fed[0] - Segmenter(backend, REGION).prepare(Frame(image, 0, 0)).tensor).max() < 1e-5


def test_every_frame_is_drawn_or_written(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 15)
    model = PlainModel(FakeBackend(SPEC), REGION)
    assert plain_loop(str(clip), model, 100, None, 30) == 15
    target = tmp_path / "out.mp4"
    assert plain_loop(str(clip), model, 10, target, 30) == 10
    with open_source(target) as source:
        frames = list(source)
    assert [frame.image.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 10
    with open_source(clip) as source:
        before = next(iter(source)).image
    assert np.abs(frames[0].image.astype(int) - before.reshape(HEIGHT, WIDTH, -1)).max() > 60


def test_what_opencv_cannot_read_or_write(tmp_path: Path) -> None:
    model = PlainModel(FakeBackend(SPEC), REGION)
    with pytest.raises(SourceError, match="OpenCV cannot read"):
        plain_loop(str(tmp_path / "none.mp4"), model, 10, None, 30)
    clip = write_clip(tmp_path / "clip.mp4", 3)
    with pytest.raises(SinkError, match="OpenCV cannot write"):
        plain_loop(str(clip), model, 10, tmp_path / "missing" / "out.mp4", 30)
