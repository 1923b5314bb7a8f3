"""Which frames are repetitions: those that differ by noise, of a grabber or of an encoder."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO

import cv2

# isort: split
import av
import numpy as np
import pytest

from streamseg.segmentation.repetition_detector import RECENT_NS, RepetitionDetector

SIZE = (192, 256)
LEARNED = 48
"""Frames after which floor and rhythm are known."""


def grabbed(
    count: int,
    repeats: int,
    sigma: float,
    size: tuple[int, int] = SIZE,
    step: float = 1.0,
    blur: float = 0.0,
) -> list[np.ndarray]:
    """A scanner's images, each repeated by a grabber with new noise; ``step`` is the change per image."""
    rng = np.random.default_rng(4)
    large = cv2.resize(rng.uniform(20, 160, (8, 10)).astype(np.float32), size[::-1])
    fields = [cv2.GaussianBlur(rng.normal(0, 1, (*size, 2)).astype(np.float32), (0, 0), 1.3) for _ in "ab"]
    images = []
    for k in range(count):
        angle = 0.05 * step * k
        field = np.cos(angle) * fields[0] + np.sin(angle) * fields[1]
        tissue = large * np.hypot(field[..., 0], field[..., 1]) * 3
        for _ in range(repeats):
            noise = rng.normal(0, 1, size).astype(np.float32)
            if blur:
                noise = cv2.GaussianBlur(noise, (0, 0), blur)
                noise /= noise.std()
            images.append(np.clip(tissue + sigma * noise + 0.5, 0, 255).astype(np.uint8))
    return images


def mjpeg(images: list[np.ndarray], quality: int) -> list[np.ndarray]:
    """The images as motion JPEG."""
    coded = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for image in images]
    return [np.asarray(cv2.imdecode(one, cv2.IMREAD_GRAYSCALE)) for one in coded]


def h264(images: list[np.ndarray], kilobits: int) -> list[np.ndarray]:
    """The images as H.264 of a bit rate at 60 frames a second, with a key frame every second."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        options = {"preset": "ultrafast", "tune": "zerolatency"}
        stream = out.add_stream("libx264", rate=Fraction(60), options=options)
        stream.bit_rate, stream.gop_size, stream.pix_fmt = 1000 * kilobits, 60, "yuv420p"
        stream.height, stream.width = images[0].shape
        for image in images:
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p"))
            )
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as read:
        return [frame.to_ndarray(format="gray") for frame in read.decode(video=0)]


def repeated(images: list[np.ndarray], fps: float = 60.0) -> list[bool]:
    """Whether each image counts as a repetition."""
    detector = RepetitionDetector()
    return [detector.update(image, round(k * 1e9 / fps)) for k, image in enumerate(images)]


@pytest.mark.parametrize(("repeats", "sigma"), [(3, 2), (2, 1), (2, 3), (4, 2), (6, 1)])
def test_frames_that_a_grabber_repeats_with_noise_add_no_evidence(repeats: int, sigma: float) -> None:
    found = repeated(grabbed(12, repeats, sigma), fps=30 * repeats)
    began = 2 * repeats  # before the first change of the image nothing can be said
    assert found[began:] == [bool(k % repeats) for k in range(began, len(found))]


@pytest.mark.parametrize(("repeats", "sigma", "blur"), [(3, 2, 1.0), (2, 1.5, 1.5), (3, 1, 0.7), (4, 2, 1.0)])
def test_frames_that_a_grabber_repeats_with_noise_of_whole_specks_are_found_by_its_floor(
    repeats: int, sigma: float, blur: float
) -> None:
    found = repeated(grabbed(96 // repeats, repeats, sigma, blur=blur))
    assert found[LEARNED:] == [bool(k % repeats) for k in range(LEARNED, len(found))]


def test_a_floor_is_known_even_where_the_grabber_s_rate_is_no_multiple_of_the_scanner_s() -> None:
    """25 images a second at 60, and frames that the segmentation had no time for."""
    rng, images = np.random.default_rng(1), grabbed(50, 3, 2, blur=1.0)
    shown = [k * 25 // 60 for k in range(120)]
    chosen = [images[3 * number + k % 3] for k, number in enumerate(shown)]
    detector, kept, wrong = RepetitionDetector(), -1, 0
    for k, image in enumerate(chosen):
        if rng.random() < 0.15:
            continue
        found = detector.update(image, k * 16_666_667)
        wrong += k >= 60 and found != (shown[k] == kept)
        kept = shown[k]
    assert wrong <= 1


@pytest.mark.parametrize("quality", [15, 35, 60])
@pytest.mark.parametrize("repeats", [2, 3])
def test_repetitions_that_motion_jpeg_has_coded_at_a_low_rate_are_found(repeats: int, quality: int) -> None:
    found = repeated(mjpeg(grabbed(96 // repeats, repeats, 1), quality))
    assert found[LEARNED:] == [bool(k % repeats) for k in range(LEARNED, len(found))]


@pytest.mark.parametrize("kilobits", [200, 400, 800])
@pytest.mark.parametrize("repeats", [2, 3])
def test_of_repetitions_that_h264_has_coded_at_a_low_rate_some_are_found(repeats: int, kilobits: int) -> None:
    """The encoder spreads the change of an image over several frames; those count as new."""
    found = repeated(h264(grabbed(150 // repeats, repeats, 1), kilobits))[LEARNED:]
    assert found.count(False) < 0.8 * len(found)


@pytest.mark.parametrize("sigma", [0, 1, 2, 3])
@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize("step", [1.0, 0.6, 5.0])
def test_no_frame_of_a_quiet_scene_is_taken_for_a_repetition(sigma: float, blur: float, step: float) -> None:
    assert not any(repeated(grabbed(60, 1, sigma, step=step, blur=blur), fps=30))


@pytest.mark.parametrize("kilobits", [200, 800])
def test_few_frames_of_a_unique_stream_at_a_low_rate_are_taken_for_repetitions(kilobits: int) -> None:
    """The encoder itself repeats some, when it has no bits left."""
    assert sum(repeated(h264(grabbed(150, 1, 1, step=0.5), kilobits))) < 0.25 * 150


def moved_by(steps: list[float]) -> list[np.ndarray]:
    """Tissue that changes by given amounts from image to image."""
    rng, images = np.random.default_rng(4), []
    fields = [cv2.GaussianBlur(rng.normal(0, 1, (*SIZE, 2)).astype(np.float32), (0, 0), 1.3) for _ in "ab"]
    for place in np.cumsum(steps):
        field = np.cos(0.05 * place) * fields[0] + np.sin(0.05 * place) * fields[1]
        images.append(np.clip(300 * np.hypot(field[..., 0], field[..., 1]), 0, 255).astype(np.uint8))
    return images


@pytest.mark.parametrize("slope", [0.97, 1.03])
def test_a_movement_that_only_ends_or_begins_has_no_rhythm(slope: float) -> None:
    """Every period has its largest difference at the same place."""
    steps = [3.0 * slope ** (k if slope < 1 else k - 80) for k in range(80)]
    assert not any(repeated(moved_by(steps)))


def test_an_artery_s_beat_is_no_floor() -> None:
    """Differences fall into two groups, but stay in each for a while."""
    steps = [3.0 if k % 26 < 8 else 0.6 for k in range(130)]
    assert not any(repeated(moved_by(steps), fps=30))


def test_after_a_pause_or_at_another_size_nothing_is_known() -> None:
    detector, images = RepetitionDetector(), grabbed(20, 3, 2)
    for k, image in enumerate(images):
        detector.update(image, k * 16_666_667)
    last_ns = (len(images) - 1) * 16_666_667
    assert not detector.update(images[-1], last_ns + RECENT_NS + 1)
    assert not detector.update(images[-1][:96], last_ns + RECENT_NS + 2)
