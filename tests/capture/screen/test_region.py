"""Where the ultrasound image lies: in live frames and in recordings, given, reported, found or neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from streamseg.capture.screen.region import (
    LIVE_ATTEMPTS,
    LIVE_SAMPLE_EVERY_NS,
    LIVE_SAMPLES,
    ImageRegion,
    Origin,
    sample_frames,
)
from streamseg.core.errors import SourceCut, UsageError
from streamseg.core.types import Frame, Image, Roi, SourceInfo
from tests.capture.screen.test_find import iou
from tests.capture.synthetic_screens import make_screen
from tests.fakes import Clip


def feed(region: ImageRegion, images: list[Image], frames: int) -> list[Roi | None]:
    """The region of each of ``frames`` frames, which come at the finder's own rate."""
    return [region.locate(Frame(images[k % len(images)], k, k * LIVE_SAMPLE_EVERY_NS)) for k in range(frames)]


def test_a_given_region_holds_for_every_size_that_it_fits_into() -> None:
    said: list[str] = []
    region = ImageRegion(Roi(10, 10, 60, 40), say=said.append)
    for shape in ((64, 96), (128, 200)):
        assert region.locate(Frame(np.zeros(shape, np.uint8), 0, 0)) == Roi(10, 10, 60, 40)
    assert not said


def test_a_given_region_that_does_not_fit_is_looked_for_and_said_once() -> None:
    said: list[str] = []
    region = ImageRegion(Roi(10, 10, 600, 40), say=said.append)
    image = np.zeros((64, 96), np.uint8)
    for k in range(5):
        assert region.locate(Frame(image, k, k * LIVE_SAMPLE_EVERY_NS)) is None
    assert said == ["--roi 10,10,600,40 does not fit into frames of 96x64; looking for the image"]


def test_without_search_the_whole_frame_is_taken() -> None:
    region = ImageRegion()
    frame = Frame(np.zeros((48, 64), np.uint8), 0, 0)
    assert region.known(frame) is None
    assert region.locate(frame) == Roi(0, 0, 64, 48)
    assert region.known(frame) == Roi(0, 0, 64, 48)


def test_the_image_is_found_in_the_first_seconds_and_again_after_a_change_of_size() -> None:
    said: list[str] = []
    region = ImageRegion(search=True, say=said.append)
    for seed in (1, 4):
        drawn = make_screen(seed)
        answers = feed(region, drawn.frames, LIVE_SAMPLES)
        assert answers[:-1] == [None] * (LIVE_SAMPLES - 1)
        assert answers[-1] is not None
        assert iou(answers[-1], drawn.box) > 0.8
    assert len(said) == 2
    assert "16 of 16" not in region.progress


def test_frames_that_come_too_fast_are_not_all_looked_at() -> None:
    region = ImageRegion(search=True)
    images = make_screen(1).frames
    for k in range(LIVE_SAMPLES):
        assert region.locate(Frame(images[k % len(images)], k, k * LIVE_SAMPLE_EVERY_NS // 4)) is None
    assert (
        region.progress == f"looking for the ultrasound image, {LIVE_SAMPLES // 4} of {LIVE_SAMPLES} frames"
    )


@pytest.mark.parametrize("grey", [0, 255])
def test_where_nothing_is_found_the_whole_frame_is_taken_in_the_end(grey: int) -> None:
    said: list[str] = []
    region = ImageRegion(search=True, say=said.append)
    image = np.full((64, 96), grey, np.uint8)
    for k in count():
        if (roi := region.locate(Frame(image, k, k * LIVE_SAMPLE_EVERY_NS))) is not None:
            break
    assert k + 1 == LIVE_ATTEMPTS * LIVE_SAMPLES
    assert roi == Roi(0, 0, 96, 64)
    assert len(said) == 1
    assert said[0].startswith("found no ultrasound image, taking the whole screen")


INFO = SourceInfo("clip", 64, 96)


def no_second_opening() -> Clip:
    raise AssertionError("the source was opened again")


def test_a_given_region_must_fit_into_every_frame_of_a_recording() -> None:
    with pytest.raises(UsageError, match="reaches outside the frame of 96x64"):
        ImageRegion.of_recording(INFO, no_second_opening, given=Roi(0, 0, 97, 64))
    region = ImageRegion.of_recording(INFO, no_second_opening, given=Roi(0, 0, 96, 64))
    assert (region.roi, region.origin) == (Roi(0, 0, 96, 64), "given")
    assert region.locate(Frame(np.zeros((64, 96), np.uint8), 0, 0)) == region.roi
    with pytest.raises(UsageError, match="reaches outside the frame of 90x64"):
        region.locate(Frame(np.zeros((64, 90), np.uint8), 1, 0))


def test_the_sources_own_region_holds_for_frames_of_its_size_only() -> None:
    said: list[str] = []
    info = replace(INFO, region=Roi(10, 10, 50, 40))
    region = ImageRegion.of_recording(info, no_second_opening, say=said.append)
    assert (region.roi, region.origin) == (Roi(10, 10, 50, 40), Origin.SOURCE)
    assert region.locate(Frame(np.zeros((64, 96), np.uint8), 0, 0)) == Roi(10, 10, 50, 40)
    for index, shape in enumerate(((80, 100), (90, 100))):
        assert region.locate(Frame(np.zeros(shape, np.uint8), index, 0)) == Roi(0, 0, 100, shape[0])
    assert said == ["frame 0 is 100x80; frames of another size are taken whole"]


def test_frames_of_another_size_than_a_whole_one_are_nothing_to_speak_of() -> None:
    said: list[str] = []
    info = replace(INFO, region=Roi(0, 0, 96, 64))
    region = ImageRegion.of_recording(info, no_second_opening, say=said.append)
    assert region.locate(Frame(np.zeros((80, 100), np.uint8), 0, 0)) == Roi(0, 0, 100, 80)
    assert not said


def test_the_image_of_a_recording_is_found_in_a_second_opening() -> None:
    drawn, said = make_screen(1), []

    class Screen(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for index in range(40):
                yield Frame(drawn.frames[index % len(drawn.frames)], index, 0)
            raise SourceCut("clip ends in the middle; it was cut")

    height, width = drawn.frames[0].shape[:2]
    region = ImageRegion.of_recording(SourceInfo("clip", height, width), lambda: Screen(40), say=said.append)
    assert region.roi is not None
    assert iou(region.roi, drawn.box) > 0.8
    assert region.origin == "found"
    assert said == [f"found the ultrasound image at {region.roi}; --roi overrides it"]


def test_without_search_or_success_a_recording_is_taken_whole() -> None:
    said: list[str] = []
    for region in (
        ImageRegion.of_recording(replace(INFO, region=Roi(1, 1, 9, 9)), no_second_opening, search=False),
        ImageRegion.of_recording(INFO, lambda: Clip(1), say=said.append),
    ):
        assert (region.roi, region.origin) == (None, "whole frame")
        for shape in ((64, 96), (70, 90)):
            assert region.locate(Frame(np.zeros(shape, np.uint8), 0, 0)) == Roi(0, 0, shape[1], shape[0])
    assert said == ["found no ultrasound image, taking the whole screen; --roi x,y,w,h sets it"]


def test_samples_are_spread_over_the_first_seconds_and_of_one_size() -> None:
    def frames() -> Iterator[Frame]:
        for index in range(1000):
            yield Frame(np.full((64, 96) if index != 16 else (32, 48), index % 256, np.uint8), index, 0)

    assert [image[0, 0] for image in sample_frames(frames())] == [0, 8, *range(24, 192, 8)]
