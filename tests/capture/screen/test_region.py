"""The ROI of live frames."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from streamseg.capture.screen.region import ATTEMPTS, EVERY_NS, SAMPLES, LiveRegion
from streamseg.core.types import Frame, Image, Roi
from tests.capture.screen.test_find import iou
from tests.capture.synthetic_screens import make_screen


def feed(region: LiveRegion, images: list[Image], frames: int) -> list[Roi | None]:
    """What is known of each of so many frames, which come at the finder's own rate."""
    return [region.of(Frame(images[k % len(images)], k, k * EVERY_NS)) for k in range(frames)]


def test_a_given_region_holds_for_every_size_that_it_fits_into() -> None:
    said: list[str] = []
    region = LiveRegion(Roi(10, 10, 60, 40), search=False, say=said.append)
    for shape in ((64, 96), (128, 200)):
        assert region.of(Frame(np.zeros(shape, np.uint8), 0, 0)) == Roi(10, 10, 60, 40)
    assert not said


def test_a_given_region_that_does_not_fit_is_looked_for_and_said_once() -> None:
    said: list[str] = []
    region = LiveRegion(Roi(10, 10, 600, 40), search=False, say=said.append)
    image = np.zeros((64, 96), np.uint8)
    for k in range(5):
        assert region.of(Frame(image, k, k * EVERY_NS)) is None
    assert said == ["--roi 10,10,600,40 does not fit into frames of 96x64; looking for the image"]


def test_without_search_the_whole_frame_is_taken() -> None:
    region = LiveRegion(None, search=False, say=lambda message: None)
    frame = Frame(np.zeros((48, 64), np.uint8), 0, 0)
    assert region.known(frame) is None
    assert region.of(frame) == Roi(0, 0, 64, 48)
    assert region.known(frame) == Roi(0, 0, 64, 48)


def test_the_image_is_found_in_the_first_seconds_and_again_after_a_change_of_size() -> None:
    said: list[str] = []
    region = LiveRegion(None, search=True, say=said.append)
    for seed in (1, 4):
        drawn = make_screen(seed)
        answers = feed(region, drawn.frames, SAMPLES)
        assert answers[:-1] == [None] * (SAMPLES - 1)
        assert answers[-1] is not None
        assert iou(answers[-1], drawn.box) > 0.8
    assert len(said) == 2
    assert "16 of 16" not in region.progress


def test_frames_that_come_too_fast_are_not_all_looked_at() -> None:
    region = LiveRegion(None, search=True, say=lambda message: None)
    images = make_screen(1).frames
    for k in range(SAMPLES):
        assert region.of(Frame(images[k % len(images)], k, k * EVERY_NS // 4)) is None
    assert region.progress == f"looking for the ultrasound image, {SAMPLES // 4} of {SAMPLES} frames"


@pytest.mark.parametrize("grey", [0, 255])
def test_where_nothing_is_found_the_whole_frame_is_taken_in_the_end(grey: int) -> None:
    said: list[str] = []
    region = LiveRegion(None, search=True, say=said.append)
    image = np.full((64, 96), grey, np.uint8)
    for k in count():
        if (roi := region.of(Frame(image, k, k * EVERY_NS))) is not None:
            break
    assert k + 1 == ATTEMPTS * SAMPLES
    assert roi == Roi(0, 0, 96, 64)
    assert len(said) == 1
    assert said[0].startswith("found no ultrasound image, taking the whole screen")
