from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from streamseg.capture.screen.find import find_region
from streamseg.core.types import Grey, Image, Roi
from tests.capture.synthetic_screens import compress, interface, make_screen, tissue

DATA = Path(__file__).parents[3].parent / "shared" / "data"
CLIPS = sorted((DATA / "clips").glob("*.mp4"))
PICTURES = sorted((DATA / "usgra-seg" / "images").glob("*.png"))
needs_clips = pytest.mark.skipif(not CLIPS, reason=f"the real clips are not at {DATA / 'clips'}")
needs_images = pytest.mark.skipif(not PICTURES, reason=f"the real images are not at {DATA / 'usgra-seg'}")

# Marked by eye on enlarged frames, exact to about a pixel.
CLIP_BOX = Roi(210, 43, 727, 579)
CINE_BOX = Roi(84, 45, 513, 358)


def iou(found: Roi | None, box: Roi) -> float:
    if found is None:
        return 0.0
    width = min(found.x + found.width, box.x + box.width) - max(found.x, box.x)
    height = min(found.y + found.height, box.y + box.height) - max(found.y, box.y)
    shared = max(0, width) * max(0, height)
    return shared / (found.width * found.height + box.width * box.height - shared)


def read_clip(path: Path, count: int, step: int) -> list[Image]:
    frames = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % step == 0:
                frames.append(frame.to_ndarray(format="bgr24"))
            if len(frames) == count:
                break
    return frames


def content_box(image: Grey) -> Roi:
    """What is not the black padding of a image, small texts in the padding left out."""
    solid = cv2.morphologyEx((image > 0).astype(np.uint8), cv2.MORPH_OPEN, np.ones((25, 25), np.uint8))
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    left, top, width, height, _ = (int(v) for v in stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))])
    return Roi(left, top, width, height)


@needs_clips
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_finds_the_rectangle_on_real_screens(path: Path) -> None:
    frames = read_clip(path, count=12, step=6)
    found = find_region(frames)
    assert iou(found, CLIP_BOX) >= 0.97, found
    for frame in (frames[0], frames[-1]):
        assert iou(find_region([frame]), CLIP_BOX) >= 0.95, "a single frame must do"


def test_finds_the_fan_of_a_real_cine() -> None:
    path = get_testdata_file("color3d_jpeg_baseline.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in pydicom.dcmread(path).pixel_array[::12]]
    assert iou(find_region(frames), CINE_BOX) >= 0.95
    singles = [iou(find_region([frame]), CINE_BOX) for frame in frames]
    assert np.median(singles) >= 0.9, singles  # a corner of the fan is black in some
    assert min(singles) >= 0.7, singles


@needs_images
def test_crops_real_images_to_their_content() -> None:
    scores = []
    for path in PICTURES[::10]:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        scores.append(iou(find_region([image]), content_box(image)))  # type: ignore[arg-type]
    assert np.mean(scores) >= 0.96, scores
    assert min(scores) >= 0.8, scores


@needs_images
def test_finds_real_pictures_in_drawn_interfaces() -> None:
    scores = {}
    for seed, path in enumerate(PICTURES[3::25]):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        inner = content_box(image).crop(image)  # type: ignore[arg-type]
        screen = make_screen(1000 + seed, content=[inner], count=1)
        scores[screen.about] = iou(find_region(screen.frames), screen.box)
    assert np.mean(list(scores.values())) >= 0.9, scores


def test_finds_drawn_screens_of_many_kinds() -> None:
    scores = {}
    for seed in range(200, 216):
        screen = make_screen(seed)
        scores[f"{seed} {screen.about}"] = iou(find_region(screen.frames), screen.box)
    worst = sorted(scores.items(), key=lambda item: item[1])[:5]
    assert np.mean(list(scores.values())) >= 0.93, worst


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (1920, 1080)])
def test_finds_it_at_every_resolution(size: tuple[int, int]) -> None:
    for seed in (301, 302):
        screen = make_screen(seed, size=size, count=4, attenuation=15)
        assert iou(find_region(screen.frames), screen.box) >= 0.85, screen.about


def test_colour_and_grey_agree() -> None:
    screen = make_screen(7, size=(800, 600), count=3)
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8) for frame in screen.frames]
    assert find_region(grey) == find_region(screen.frames)


def test_an_analogue_grabbers_noise_is_not_the_image() -> None:
    screen = make_screen(4, size=(800, 600), count=4)
    rng = np.random.default_rng(0)
    noisy = [np.clip(f + rng.normal(0, 2, f.shape), 0, 255).astype(np.uint8) for f in screen.frames]
    assert iou(find_region(noisy), screen.box) >= 0.9


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("shape", [(240, 320), (480, 640), (720, 1280)])
def test_a_frame_that_is_image_all_over_is_found_whole(shape: tuple[int, int], count: int) -> None:
    frames = tissue(np.random.default_rng(3), *shape, count, attenuation=0)
    for quality in (None, 80):
        seen = frames if quality is None else compress(frames, "jpeg", quality)
        assert find_region(seen) == Roi(0, 0, shape[1], shape[0])


def test_black_padding_is_cut_off() -> None:
    frames = []
    for view in tissue(np.random.default_rng(5), 300, 400, 2, attenuation=0):
        frames.append(np.pad(np.maximum(view, 1), ((60, 40), (50, 90))))
    assert iou(find_region(frames), Roi(50, 60, 400, 300)) >= 0.97


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 3), (40, 40)])
def test_nothing_is_found_in_an_even_frame(shape: tuple[int, ...], level: int) -> None:
    assert find_region([np.full(shape, level, np.uint8)] * 3) is None


def test_nothing_is_found_in_an_interface_without_image() -> None:
    for seed in range(12):
        blank, _, about = interface(np.random.default_rng(seed), 800, 600)
        assert find_region([blank]) is None, about


def test_no_frames_and_tiny_frames_give_nothing() -> None:
    assert find_region([]) is None
    assert find_region([np.zeros((1, 1), np.uint8)]) is None
    assert find_region([np.zeros((8, 2000, 3), np.uint8)]) is None


def test_any_frame_gives_nothing_or_a_region_inside_it() -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        height, width = (int(v) for v in rng.integers(32, 300, 2))
        frame = np.full((height, width), rng.integers(0, 255), np.uint8)
        for _ in range(rng.integers(0, 6)):
            top, bottom = sorted(rng.integers(0, height + 1, 2))
            left, right = sorted(rng.integers(0, width + 1, 2))
            noise = rng.integers(0, 255, (bottom - top, right - left))
            frame[top:bottom, left:right] = rng.integers(0, 255) if rng.random() < 0.4 else noise
        found = find_region([frame])
        if found is not None:
            found.check_inside(height, width)
