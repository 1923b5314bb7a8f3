"""Quality of recorded frames: they and their masks are close to the captured ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.backends import load_backend
from streamseg.capture import open_source
from streamseg.capture.video.source import VideoSource
from streamseg.core.types import Frame
from streamseg.evaluation.overlap import Confusion
from streamseg.recording.segments import ORIGINAL_CRF, SegmentedVideo
from streamseg.segmentation.segmenter import Segmenter


def rewritten(frames: list[Frame], folder: Path) -> list[Frame]:
    """The frames as a recording gives them back, grey."""
    video = SegmentedVideo(folder, "original", seconds=60, quality=ORIGINAL_CRF)
    for frame in frames:
        video.add(frame.image, frame.index * 33_333, None, lambda name, number: None)
    video.close()
    with VideoSource(folder / "original-0001.mp4") as source:
        return [
            Frame(np.ascontiguousarray(found.image[:, :, 0]), frame.index, 0, None, frame.spacing_mm)
            for found, frame in zip(source, frames, strict=True)
        ]


@pytest.fixture(scope="module")
def phantom() -> list[Frame]:
    with open_source("phantom:?seed=1&frames=12&nerve=always") as source:
        return list(source)


def test_recorded_frames_are_close_to_the_captured_ones(tmp_path: Path, phantom: list[Frame]) -> None:
    for before, after in zip(phantom, rewritten(phantom, tmp_path), strict=True):
        assert cv2.PSNR(before.image, after.image) > 43
        assert abs(float(before.image.mean()) - float(after.image.mean())) < 0.5


def test_masks_of_recorded_frames_are_close_to_those_of_captured_ones(
    tmp_path: Path, phantom: list[Frame]
) -> None:
    backend = load_backend(None)
    segmenter = Segmenter(backend)
    both = zip(phantom[::3], rewritten(phantom, tmp_path)[::3], strict=True)
    masks = [(segmenter.segment(before).mask, segmenter.segment(after).mask) for before, after in both]
    backend.close()
    assert any(mask.any() for mask, _ in masks)
    assert np.mean([Confusion.count(after, before).dice for before, after in masks]) > 0.95
