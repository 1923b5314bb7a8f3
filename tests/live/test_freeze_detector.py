"""The frozen scanner: what fires, what does not, and when."""

import io
from pathlib import Path

import cv2  # isort: skip  (before av: in the other order a window would hang)
import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.capture import open_source
from streamseg.capture.screen.find import find_region
from streamseg.core.errors import UsageError
from streamseg.core.types import Grey, Image
from streamseg.live.freeze_detector import FreezeDetector
from streamseg.phantom import PhantomVideo, render_still

CLIPS = Path(__file__).resolve().parents[3] / "shared/data/clips"
IMAGE = render_still(7, height=288, width=360).image


def fired(images: list[Image], fps: float = 30.0, limit_s: float = 1.0) -> list[bool]:
    watch = FreezeDetector(limit_s)
    return [watch.update(image, round(k * 1e9 / fps)) for k, image in enumerate(images)]


def noisy(image: Grey, sigma: float, count: int, seed: int = 0) -> list[Image]:
    rng = np.random.default_rng(seed)
    return [
        np.clip(image + rng.normal(0, sigma, image.shape) + 0.5, 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def h264(images: list[Image], bit_rate: int) -> list[Image]:
    """The images through a live encoder, with a key frame every half second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.height, stream.width = images[0].shape
        stream.pix_fmt, stream.bit_rate, stream.gop_size = "yuv420p", bit_rate, 15
        stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@given(st.floats(1, 120), st.floats(0.1, 3), st.booleans())
@settings(deadline=None, max_examples=30)
def test_an_image_repeated_for_the_limit_is_frozen_and_not_before(
    fps: float, limit_s: float, colour: bool
) -> None:
    image = cv2.cvtColor(IMAGE, cv2.COLOR_GRAY2BGR) if colour else IMAGE
    step = round(1e9 / fps)
    watch = FreezeDetector(limit_s)
    for k in range(min(300, round(limit_s * fps) + 3)):
        # Of a source slower than the limit nothing can be said.
        expected = k * step >= round(limit_s * 1e9) > step
        assert watch.update(image, k * step) == expected


@pytest.mark.parametrize("sigma", [1, 2])
def test_a_frozen_image_after_a_grabbers_noise_is_frozen(sigma: int) -> None:
    assert fired(noisy(IMAGE, sigma, 35)) == [False] * 30 + [True] * 5


@pytest.mark.parametrize("bit_rate", [300_000, 1_000_000])
def test_a_frozen_image_is_frozen_after_h264(bit_rate: int) -> None:
    seen = fired(h264([IMAGE] * 90, bit_rate))
    # In its first second an encoder finds its rate; from then on nothing changes.
    assert all(seen[75:])


def test_a_frozen_image_is_frozen_after_motion_jpeg_of_varying_quality() -> None:
    rng = np.random.default_rng(1)
    images: list[Image] = []
    for quality in rng.integers(60, 96, 40):
        _, data = cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        images.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8))
    assert fired(images)[30:] == [True] * 10


@pytest.mark.parametrize("seed", [910, 914, 2003])  # 914 is the dimmest and stillest of many
@pytest.mark.parametrize("repeats", [1, 6])
def test_live_tissue_at_rest_is_not_frozen_also_where_a_machine_draws_five_images_in_a_second(
    seed: int, repeats: int
) -> None:
    video = PhantomVideo(seed, height=288, width=360, nerve=True)
    images: list[Image] = []
    for number in range(0, 75, repeats):
        images += [video.frame(number).image] * repeats
    assert not any(fired(images))


def test_real_clips_are_not_frozen_also_with_every_frame_thrice() -> None:
    clips = sorted(CLIPS.glob("*.mp4"))
    if not clips:
        pytest.skip("no clips in shared/data/clips")
    for clip in clips:
        with open_source(clip) as source:
            images = [frame.image for frame in source]
        region = find_region(images[::10])
        assert region is not None
        crops = [region.crop(image) for image in images]
        assert not any(fired(crops, fps=20))
        assert not any(fired([crop for crop in crops for _ in range(3)], fps=61))


def test_the_first_change_ends_a_freeze_and_the_next_takes_its_time_again() -> None:
    other = render_still(8, height=288, width=360).image
    seen = fired([IMAGE] * 40 + [other] * 40)
    assert seen == ([False] * 30 + [True] * 10) * 2


@pytest.mark.parametrize("level", [0, 2, 16])
def test_a_black_image_says_nothing_about_freezing(level: int) -> None:
    black = np.full((288, 360), level, np.uint8)
    assert not any(fired([black] * 60))
    assert not any(fired(noisy(black, 2, 60)))


def test_another_size_a_pause_and_time_that_goes_back_begin_anew() -> None:
    watch, step = FreezeDetector(), 33_000_000

    def freeze(image: Image, start: int) -> int:
        seen = [watch.update(image, start + k * step) for k in range(35)]
        assert seen == [False] * 31 + [True] * 4
        return start + 35 * step

    now = freeze(IMAGE, 10**9)
    now = freeze(np.ascontiguousarray(IMAGE[:200]), now)
    now = freeze(np.ascontiguousarray(IMAGE[:200]), now + 10**9)
    freeze(np.ascontiguousarray(IMAGE[:200]), 0)
    watch.reset()
    freeze(np.ascontiguousarray(IMAGE[:200]), 35 * step)


@given(
    st.integers(1, 400), st.integers(1, 400), st.sampled_from([(), (3,)]), st.lists(st.integers(-9, 10**10))
)
@settings(deadline=None, max_examples=50)
def test_any_image_at_any_time_is_accepted(
    height: int, width: int, channels: tuple[int, ...], times: list[int]
) -> None:
    watch = FreezeDetector()
    image = np.random.default_rng(0).integers(0, 256, (height, width, *channels), np.uint8)
    for time in times:
        watch.update(image, time)


@pytest.mark.parametrize("limit_s", [0, -1, float("inf"), float("nan")])
def test_a_limit_that_is_no_time_is_refused(limit_s: float) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        FreezeDetector(limit_s)
