"""Where the ultrasound image lies: in live frames and in recordings, given, reported, found or neither."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
import pytest

from streamseg.capture.screen import find, layout_watch
from streamseg.capture.screen.region import (
    CONFIRMING_SAMPLES,
    EARLY_SAMPLES,
    LIVE_SAMPLE_EVERY_NS,
    LIVE_SAMPLES,
    ImageRegion,
    Origin,
    sample_spots,
)
from streamseg.core.errors import SourceCut, UsageError
from streamseg.core.types import Frame, Image, Roi, SourceInfo
from tests.capture.screen.test_find import iou
from tests.capture.synthetic_screens import Screen, make_screen, tissue
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


def test_a_given_region_outside_the_first_frame_is_an_error() -> None:
    region = ImageRegion(Roi(10, 10, 600, 40))
    with pytest.raises(UsageError, match=r"10,10,600,40 reaches outside the frame of 96x64"):
        region.locate(Frame(np.zeros((64, 96), np.uint8), 0, 0))


def test_nothing_of_frames_is_used_that_a_given_region_no_longer_fits_into_and_that_is_said_once() -> None:
    said: list[str] = []
    region = ImageRegion(Roi(10, 10, 60, 40), search=True, say=said.append)
    large, small = np.zeros((64, 96), np.uint8), make_screen(4, size=(640, 480)).frames[0][:40, :60]
    assert region.locate(Frame(large, 0, 0)) == Roi(10, 10, 60, 40)
    for k in range(100):
        frame = Frame(np.ascontiguousarray(small), k, k * LIVE_SAMPLE_EVERY_NS)
        assert region.locate(frame) is region.known(frame) is None
    assert region.progress == "--roi 10,10,60,40 does not fit into frames of 60x40; give another"
    assert said == [f"{region.progress}; nothing is shown or recorded until it fits"]
    assert region.locate(Frame(large, 101, 0)) == Roi(10, 10, 60, 40)


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
        answers = feed(region, drawn.frames, EARLY_SAMPLES)
        assert answers[:-1] == [None] * (EARLY_SAMPLES - 1)
        assert answers[-1] is not None
        assert iou(answers[-1], drawn.box) > 0.8
    assert len(said) == 2


def test_a_part_that_moves_alone_is_not_taken_for_the_image_at_once() -> None:
    drawn = make_screen(9)
    box = drawn.box
    half = [drawn.frames[0].copy() for _ in drawn.frames]
    upper = slice(box.y, box.y + 3 * box.height // 5), slice(box.x, box.x + box.width)
    for frame, moved in zip(half, drawn.frames, strict=True):
        frame[upper] = moved[upper]
    region = ImageRegion(search=True)
    assert feed(region, half, EARLY_SAMPLES + 1) == [None] * (EARLY_SAMPLES + 1)
    found = [place for place in feed(ImageRegion(search=True), drawn.frames, LIVE_SAMPLES) if place]
    assert len(found) == LIVE_SAMPLES - EARLY_SAMPLES + 1
    assert all(iou(place, box) > 0.9 for place in found)


def test_frames_that_come_too_fast_are_not_all_looked_at() -> None:
    region = ImageRegion(search=True)
    images = make_screen(1).frames
    for k in range(LIVE_SAMPLES):
        assert region.locate(Frame(images[k % len(images)], k, k * LIVE_SAMPLE_EVERY_NS // 4)) is None
    assert (
        region.progress == f"looking for the ultrasound image, {LIVE_SAMPLES // 4} of {LIVE_SAMPLES} frames"
    )


@pytest.mark.parametrize("grey", [0, 255])
def test_the_search_goes_on_until_there_is_an_image_and_never_takes_the_whole_screen(grey: int) -> None:
    said: list[str] = []
    region = ImageRegion(search=True, say=said.append)
    drawn = make_screen(1)
    no_signal = np.full(drawn.frames[0].shape, grey, np.uint8)
    cv2.putText(no_signal, "NO SIGNAL", (40, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (90, 160, 250), 3)
    assert feed(region, [no_signal], 20 * LIVE_SAMPLES) == [None] * 20 * LIVE_SAMPLES
    assert region.progress == "no ultrasound image found yet; still looking, 0 of 16 frames"
    assert said == ["found no ultrasound image yet, still looking; --roi x,y,w,h or none sets it"]
    found = [
        region.locate(Frame(drawn.frames[k % len(drawn.frames)], k, k * LIVE_SAMPLE_EVERY_NS))
        for k in range(20 * LIVE_SAMPLES, 21 * LIVE_SAMPLES)
    ]
    assert found[: EARLY_SAMPLES - 1] == [None] * (EARLY_SAMPLES - 1)
    assert found[-1] is not None
    assert iou(found[-1], drawn.box) > 0.8
    assert said[1:] == [f"found the ultrasound image at {found[-1]}; --roi overrides it"]


@pytest.mark.parametrize("before", range(1, LIVE_SAMPLES))
def test_a_search_during_which_the_image_appears_does_not_take_the_whole_screen(before: int) -> None:
    said: list[str] = []
    region, usual = ImageRegion(search=True, say=said.append), screens(9)
    no_signal = np.full(usual.frames[0].shape, 20, np.uint8)
    cv2.putText(no_signal, "NO SIGNAL", (40, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (90, 160, 250), 3)
    images = [no_signal] * before + usual.frames * 10
    found = [place for place in feed(region, images, len(images)) if place is not None]
    assert len(found) >= 40 - 2 * LIVE_SAMPLES - CONFIRMING_SAMPLES
    assert all(iou(place, usual.box) > 0.9 for place in found)
    assert len(said) <= 2


def test_frames_that_are_all_image_are_taken_whole_after_a_few_more_of_them() -> None:
    region = ImageRegion(search=True)
    answers = feed(region, list(tissue(np.random.default_rng(1), 300, 400, 8, attenuation=0)), 24)
    first = LIVE_SAMPLES + CONFIRMING_SAMPLES - 1
    assert answers[:first] == [None] * first
    assert answers[first:] == [Roi(0, 0, 400, 300)] * (24 - first)


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


class Long(Clip):
    """A recording of which only frames from ``first`` to ``last`` show an image."""

    def __init__(self, drawn: Screen, first: int, last: int, count: int = 1000, start: int = 0) -> None:
        super().__init__(count)
        self.drawn, self.shown, self.start = drawn, range(first, last), start
        self.read = 0
        height, width = drawn.frames[0].shape[:2]
        self.info = SourceInfo("clip", height, width, frame_count=count, rate=Fraction(25))

    def __iter__(self) -> Iterator[Frame]:
        blank = np.zeros_like(self.drawn.frames[0])
        for index in range(self.start, self.count):
            self.read += 1
            shown = self.drawn.frames[index // 8 % len(self.drawn.frames)]
            yield Frame(shown if index in self.shown else blank, index - self.start, 0)


@pytest.mark.parametrize(("first", "last"), [(0, 1000), (300, 1000), (200, 500), (700, 1000)])
def test_the_whole_of_a_recording_is_searched_whatever_its_beginning_shows(first: int, last: int) -> None:
    drawn = make_screen(1)
    clip = Long(drawn, first, last)
    opened: list[Long] = []

    def open_at(seconds: float) -> Long:
        opened.append(Long(drawn, first, last, start=round(seconds * 25)))
        return opened[-1]

    for seek in (None, open_at):
        region = ImageRegion.of_recording(clip.info, lambda: clip, open_at=seek)
        assert region.roi is not None
        assert iou(region.roi, drawn.box) > 0.8
    assert sum(each.read for each in opened) < 200, "a long recording is not read from end to end"


class Two(Long):
    """A recording of two screens, the second one from a frame on; 25 frames a second unless it is untimed."""

    def __init__(self, one: Screen, other: Screen, change: int, *, timed: bool = True) -> None:
        super().__init__(one, 0, 1000)
        self.screens, self.change, self.timed = (one, other), change, timed
        self.info = replace(self.info, time_base=Fraction(1, 25) if timed else None)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(1000):
            frames = self.screens[index >= self.change].frames
            seconds = index / 25 if self.timed else None
            yield Frame(frames[index // 8 % len(frames)], index, 0, pts_seconds=seconds)


@pytest.mark.parametrize("change", [150, 500, 850])
def test_an_image_that_moves_in_a_recording_is_followed(change: int) -> None:
    one, other, said = screens(7), screens(8, box=Roi(300, 200, 300, 250)), list[str]()
    clip = Two(one, other, change)
    region = ImageRegion.of_recording(clip.info, lambda: clip, say=said.append)
    for frame in clip:
        if not change - 40 < frame.index < change + 40:
            continue
        place, certain = region.locate_recorded(frame)
        assert place is not None
        here = one if frame.index < change else other
        assert (iou(place, here.box) > 0.9) if certain else change <= frame.index < change + 15
    assert iou(place, other.box) > 0.9
    assert said[1:] == [f"at {change / 25 + 0.48:.1f} s the ultrasound image moved, now at {place}"]


def test_frames_of_a_recording_without_the_image_are_told_apart() -> None:
    usual, said = screens(7), list[str]()
    clip = Two(usual, screens(8, theme=140, menu=True), 500)
    region = ImageRegion.of_recording(clip.info, lambda: clip, say=said.append)
    found = [region.locate_recorded(frame) for frame in clip if 470 <= frame.index < 600]
    assert [certain for _, certain in found] == [True] * 30 + [False] * 100
    assert len({place for place, _ in found}) == 1
    left = "the ultrasound image has left the screen; no outline is valid until it is back"
    assert len(said) == 2
    assert said[1].startswith("at 20.")
    assert said[1].endswith(left)


def test_images_of_a_folder_are_not_followed_and_another_place_in_some_is_reported() -> None:
    one, other, said = screens(7), screens(8, box=Roi(300, 200, 300, 250)), list[str]()
    clip = Two(one, other, 700, timed=False)
    region = ImageRegion.of_recording(clip.info, lambda: clip, say=said.append)
    places = {region.locate_recorded(frame) for frame in clip if 650 < frame.index < 750}
    assert places == {(region.roi, True)}
    assert said[1:] == ["the ultrasound image is at another place in some files; replay those alone"]


USUAL = Roi(120, 60, 500, 480)


@cache
def screens(seed: int, box: Roi = USUAL, theme: int = 60, *, menu: bool = False, noise: float = 0) -> Screen:
    """Tissue in a rectangle of a screen of 800x600 with some text."""
    rng = np.random.default_rng(seed)
    frames = []
    for view in tissue(rng, 300, 400, 4, attenuation=15):
        frame = np.full((600, 800, 3), theme, np.uint8)
        cv2.putText(frame, f"SMITH^A {box.width}", (20, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (220,) * 3, 2)
        if not menu:
            box.crop(frame)[:] = cv2.resize(np.maximum(view, 1), (box.width, box.height))[:, :, None]
        if noise:
            frame = np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8)
        frames.append(frame)
    return Screen(frames, box, "")


def play(region: ImageRegion, screen: Screen, begin: int, seconds: float) -> list[Roi | None]:
    """The region of each frame of a screen, 30 a second, from frame number ``begin`` on."""
    return [
        region.locate(Frame(screen.frames[k // 2 % len(screen.frames)], k, k * 33_333_333))
        for k in range(begin, begin + round(30 * seconds))
    ]


@pytest.mark.parametrize("theme", [0, 225])
@pytest.mark.parametrize(
    "moved",
    [
        Roi(180, 60, 380, 480),  # another depth
        Roi(120, 60, 245, 300),  # a dual view
        Roi(370, 60, 250, 480),
        Roi(60, 120, 640, 440),
        Roi(250, 160, 300, 300),
    ],
)
def test_an_image_that_moves_on_the_screen_is_at_its_new_place_within_two_seconds(
    theme: int, moved: Roi
) -> None:
    said: list[str] = []
    region = ImageRegion(search=True, say=said.append)
    before, after = screens(1, theme=theme), screens(2, moved, theme)
    for number, screen in enumerate((before, after, before)):
        places = play(region, screen, number * 90, 3.0)
        assert places[-1] is not None
        assert iou(places[-1], screen.box) > 0.9
        if number:
            late = places[15:]
            assert late == [places[-1]] * len(late), "half a second later it is settled"
            elsewhere = [place for place in places if place is not None and iou(place, screen.box) < 0.8]
            assert len(elsewhere) <= 5, "an image that has become smaller may only have gone dark in part"
    assert said[1:] == [f"the ultrasound image moved, now at {roi}" for roi in dict.fromkeys(said_rois(said))]


@pytest.mark.parametrize("fps", [2, 3, 5])
@pytest.mark.parametrize("moved", [Roi(180, 60, 380, 480), Roi(60, 120, 640, 440)])
def test_the_new_place_is_found_within_two_seconds_in_slow_sources_too(fps: int, moved: Roi) -> None:
    region, before, after = ImageRegion(search=True), screens(1), screens(2, moved)
    images = before.frames * 6 + after.frames * 6
    places = [region.locate(Frame(image, k, k * 1_000_000_000 // fps)) for k, image in enumerate(images)]
    first = places[24]
    assert first is None or iou(first, before.box) > 0.9
    late = places[24 + 2 * fps :]
    assert all(place is not None and iou(place, after.box) > 0.9 for place in late)


def said_rois(said: list[str]) -> list[str]:
    return [line.rpartition(" ")[2] for line in said[1:]]


def without_image(what: str) -> Screen:
    """A screen of the usual size that shows no ultrasound image."""
    if what == "menu":
        return screens(4, theme=140, menu=True)
    image = np.full((600, 800, 3), 20 if what == "blue" else 0, np.uint8)
    image[..., 0] *= 4
    if what != "black":
        cv2.putText(image, "NO SIGNAL", (200, 300), cv2.FONT_HERSHEY_SIMPLEX, 2, (90, 160, 250), 3)
    return Screen([image], USUAL, "")


@pytest.mark.parametrize("theme", [0, 60, 225])
@pytest.mark.parametrize("what", ["menu", "black", "no signal", "blue"])
def test_no_frame_without_an_image_has_a_place_and_the_image_is_back_at_once_after_it(
    theme: int, what: str
) -> None:
    said: list[str] = []
    region = ImageRegion(search=True, say=said.append)
    usual, other = screens(3, theme=theme), without_image(what)
    found = play(region, usual, 0, 3.0)[-1]
    assert found is not None
    assert region.known(Frame(other.frames[0], 0, 0)) is None, "before the segmentation has seen it"
    assert play(region, other, 90, 0.1) == [None] * 3
    assert region.progress == "the screen has changed; looking for the ultrasound image"
    assert play(region, other, 93, 2.0) == [None] * 60
    assert region.progress == "the ultrasound image has left the screen; looking for it"
    assert region.known(Frame(usual.frames[0], 0, 0)) is None
    assert play(region, usual, 153, 2.0)[18:] == [found] * 42
    assert said[1:] == [
        "the ultrasound image has left the screen; nothing is shown until it is back",
        f"the ultrasound image is back, now at {found}",
    ]


@pytest.mark.parametrize("shares", [(0.3, 0.2), (0.15, 0.9)])
def test_a_message_over_a_part_of_the_screen_hides_the_image_for_a_moment_only(
    shares: tuple[float, float],
) -> None:
    region, usual = ImageRegion(search=True), screens(3)
    found = play(region, usual, 0, 3.0)[-1]
    frames = [frame.copy() for frame in usual.frames]
    for frame in frames:
        frame[-round(600 * shares[1]) :, -round(800 * shares[0]) :] = 200
    places = play(region, replace(usual, frames=frames), 90, 2.0)
    assert set(places) <= {None, found}
    assert places[20:] == [found] * 40


@pytest.mark.parametrize("what", ["nothing", "in air", "half in air", "noise", "clock"])
def test_an_image_that_only_goes_dark_stays_where_it_is(what: str) -> None:
    region = ImageRegion(search=True)
    usual = screens(5, noise=1.5 if what == "noise" else 0)
    found = play(region, usual, 0, 4.0)[-1]
    drawn = screens(6, theme=61, noise=1.5 if what == "noise" else 0)
    changed = replace(drawn, frames=[frame.copy() for frame in drawn.frames])
    for k, frame in enumerate(changed.frames):
        view = changed.box.crop(frame)
        if what == "in air":
            view[60:] //= 30
        elif what == "half in air":
            fades = np.clip((np.arange(view.shape[1]) - 200) / 100, 0.02, 1)[None, :, None]
            view[:] = (view * fades).astype(np.uint8)
        elif what == "clock":
            cv2.putText(frame, f"12:0{k}", (600, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255,) * 3, 2)
    assert play(region, changed, 120, 6.0) == [found] * 180


@pytest.mark.parametrize(("fps", "expected"), [(30, 10), (60, 10), (5, 5)])
def test_a_steady_screen_is_compared_every_tenth_of_a_second(
    fps: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    region, screen = ImageRegion(search=True), screens(8)
    still = screen.frames[0]
    play(region, screen, 0, 3.0)
    made: list[int] = []
    of = layout_watch._Grid.of
    monkeypatch.setattr(layout_watch._Grid, "of", lambda low, high: (made.append(1), of(low, high))[1])
    monkeypatch.setattr(layout_watch.LayoutWatch, "_compare", lambda *of_window: None)
    began_ns = 4_000_000_000
    for k in range(fps):
        frame = Frame(still, k, began_ns + k * 1_000_000_000 // fps)
        assert region.known(frame) == region.locate(frame) == region.known(frame) is not None
    assert len(made) in (expected - 1, expected, expected + 1)


@pytest.mark.parametrize("what", ["menu", "black", "no signal", "blue", "moved"])
def test_another_screen_is_noticed_in_its_first_frame_right_after_one_that_was_compared(what: str) -> None:
    region, usual = ImageRegion(search=True), screens(3)
    other = screens(4, Roi(250, 160, 300, 300)) if what == "moved" else without_image(what)
    assert play(region, usual, 0, 3.0)[-1] is not None
    last = Frame(usual.frames[0], 90, 90 * 33_333_333)
    assert region.locate(last) is not None
    assert region.locate(Frame(other.frames[0], 91, last.captured_ns + 1_000_000)) is None


def test_following_the_image_takes_little_time() -> None:
    region, screen = ImageRegion(search=True), screens(7)
    play(region, screen, 0, 2.0)
    began = time.process_time()
    play(region, screen, 60, 10.0)
    assert (time.process_time() - began) / 10 < 0.05, "seconds of work per second"


def test_large_frames_are_sampled_at_a_fraction_of_their_size_and_none_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder of images of 88 megapixels took 1.2 GB before its first frame."""
    drawn = make_screen(1)
    height, width = drawn.frames[0].shape[:2]
    monkeypatch.setattr(find, "_MAX_PIXELS", height * width // 3)
    alive: list[weakref.ref[Image]] = []
    most = 0

    class Screen(Clip):
        def __iter__(self) -> Iterator[Frame]:
            nonlocal most
            for index in range(40):
                most = max(most, sum(image() is not None for image in alive))
                image = drawn.frames[index % len(drawn.frames)].copy()
                alive.append(weakref.ref(image))
                frame = Frame(image, index, 0)
                del image
                yield frame
                del frame

    info = SourceInfo("clip", height, width)
    groups = sample_spots(info, lambda: Screen(40))
    assert groups[0].low.shape == (-(-height // 2), -(-width // 2))
    assert most == 0, "frames that were kept while the next one was made"
    region = ImageRegion.of_recording(info, lambda: Screen(40))
    assert region.roi is not None
    assert iou(region.roi, drawn.box) > 0.8


def test_groups_of_samples_are_spread_over_a_recording_and_of_its_size() -> None:
    class Odd(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for index in range(self.count):
                image = np.full((64, 96) if index != 16 else (32, 48), index // 8, np.uint8)
                yield Frame(image, index, 0)
            raise SourceCut("clip ends in the middle; it was cut")

    groups = sample_spots(INFO, lambda: Odd(1000))
    assert [(int(group.low[0, 0]), int(group.high[0, 0])) for group in groups][:2] == [(0, 3), (13, 15)]
    assert 8 <= len(groups) <= 16
    assert int(groups[-1].high[0, 0]) >= 110
    short = sample_spots(INFO, lambda: Odd(30))
    assert [(int(group.low[0, 0]), int(group.high[0, 0])) for group in short] == [(0, 3)]
