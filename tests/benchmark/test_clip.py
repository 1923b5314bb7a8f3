"""The clip that benchmarks run on."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.benchmark import clip as clips
from streamseg.benchmark.clip import REGION, FrameSource, open_clip
from streamseg.capture import open_source
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Frame
from tests.benchmark.fakes import FRAMES, write_clip

RECORDED = sorted((Path(__file__).resolve().parents[4] / "shared/data/clips").glob("*.mp4"))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A phantom clip and the folder that it was written to."""
    folder = tmp_path_factory.mktemp("phantom")
    return open_clip(None, folder, frames=5), folder


def test_without_a_source_a_phantom_is_encoded_and_decoded(phantom) -> None:
    clip, folder = phantom
    assert clip.synthetic
    assert clip.name == "phantom.mp4"
    assert len(clip.frames) == 5
    assert clip.roi == REGION
    assert clip.frames[0].image.shape == (768, 1024, 3)
    with open_source(folder / "phantom.mp4") as source:
        assert source.info.rate == 30
        assert len(list(source)) == clips.TURNS * 5
    # It moves: a still picture would cost a decoder nothing.
    first, last = (REGION.crop(clip.frames[number].image).astype(int) for number in (0, 4))
    assert np.abs(first - last).mean() > 1


def test_a_result_says_what_the_clip_is_and_no_folder(phantom) -> None:
    clip, folder = phantom
    assert clip.to_json() == {
        "name": "phantom.mp4",
        "synthetic": True,
        "width": 1024,
        "height": 768,
        "roi": "222,130,580,420",
        "rate": 30.0,
        "frames_in_memory": 5,
    }
    assert str(folder) not in repr(clip)


def test_the_image_of_a_recorded_clip_is_looked_for(phantom) -> None:
    _, folder = phantom
    clip = open_clip(str(folder / "phantom.mp4"), folder, frames=4)
    assert not clip.synthetic
    assert len(clip.frames) == 4
    assert clip.roi is not None
    assert abs(clip.roi.x - REGION.x) < 10
    assert abs(clip.roi.width - REGION.width) < 20


@pytest.mark.skipif(not RECORDED, reason="no recorded clips beside the checkout (shared/data/clips)")
def test_a_real_recording_is_taken_without_its_screen(tmp_path: Path) -> None:
    clip = open_clip(str(RECORDED[0]), tmp_path, frames=8)
    height, width = clip.frames[0].image.shape[:2]
    assert clip.roi is not None
    assert clip.roi.width * clip.roi.height < height * width
    assert not list(tmp_path.iterdir())


def test_a_clip_shorter_than_asked_for_is_taken_as_it_is(tmp_path: Path) -> None:
    clip = open_clip(str(write_clip(tmp_path / "short.mp4")), tmp_path)
    assert len(clip.frames) == FRAMES
    assert clip.rate == clip.pace == 30


def test_frames_are_taken_up_to_a_change_of_size(tmp_path: Path) -> None:
    for number, side in enumerate((64, 64, 96)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((side, side), 90 + number, np.uint8))
    clip = open_clip(str(tmp_path), tmp_path)
    assert [frame.image.shape[0] for frame in clip.frames] == [64, 64]
    assert clip.rate is None
    assert clip.pace == 25


def test_a_clip_that_is_cut_gives_what_came_before(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.ts", frames=40).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[: len(whole) * 2 // 3])
    clip = open_clip(str(tmp_path / "cut.ts"), tmp_path)
    assert 1 <= len(clip.frames) < 40


def test_files_that_are_not_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-such"):
        open_clip(str(tmp_path / "no-such.mp4"), tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SourceError):
        open_clip(str(tmp_path / "text.mp4"), tmp_path)
    with pytest.raises(UsageError, match="1 or more"):
        open_clip(None, tmp_path, frames=0)


def test_a_source_in_memory_counts_and_times_its_frames() -> None:
    frames = [Frame(np.full((4, 6), grey, np.uint8), 7, 0, spacing_mm=(0.1, 0.2)) for grey in (1, 2)]
    with FrameSource(frames, 60.0, count=3) as source:
        given = list(source)
    assert [frame.index for frame in given] == [0, 1, 2]
    assert [frame.image[0, 0] for frame in given] == [1, 2, 1]
    assert given[2].pts_seconds == pytest.approx(2 / 60)
    assert given[2].spacing_mm == (0.1, 0.2)
    assert 0 < given[0].captured_ns < given[1].captured_ns
    assert len(list(islice(FrameSource(frames, 30.0), 100))) == 100


@pytest.mark.parametrize(("count", "fps"), [(0, 30.0), (1, 0.0), (1, float("inf"))])
def test_a_source_of_nothing_is_refused(count: int, fps: float) -> None:
    with pytest.raises(UsageError, match="give some of each"):
        FrameSource([Frame(np.zeros((4, 6), np.uint8), 0, 0)] * count, fps)
