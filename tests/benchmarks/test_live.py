"""The arithmetic of the live benchmarks: the bar code's round trip, ages, ratios, growth."""

import time

import cv2
import numpy as np
import pytest

from benchmarks import common, live_rate, live_soak
from benchmarks.live_age import __main__ as live_age
from streamseg.core.types import Frame, Roi, Segmentation, State
from streamseg.core.view import View

MS = 1_000_000


def grey_picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 120, (common.HEIGHT, common.WIDTH), np.uint8)


def test_send_time_survives_lossy_compression() -> None:
    moment = time.monotonic_ns()
    marked = common.stamped(grey_picture(), moment)
    _, data = cv2.imencode(".jpg", marked, [cv2.IMWRITE_JPEG_QUALITY, 40])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    stamp = common.stamp_of(read)
    assert stamp is not None
    assert 0 <= moment - stamp < 1000
    assert np.array_equal(common.REGION.crop(marked), common.REGION.crop(grey_picture()))


def test_image_without_send_time_has_none() -> None:
    assert common.stamp_of(grey_picture()) is None


def test_age_less_transport_is_compared_with_the_hud() -> None:
    true, hud, transport = [50 * MS] * 10, [41 * MS] * 10, [3 * MS, 5 * MS, 90 * MS]
    found = live_age.agreement(true, hud, transport, fps=30)
    assert found["transport_ms"] == 5
    assert found["rest_ms"]["p50_ms"] == pytest.approx(45)
    assert found["difference_ms"]["p99_ms"] == pytest.approx(4)
    assert all(found["within_one_frame"].values())
    assert not any(live_age.agreement(true, [5 * MS] * 10, transport, fps=30)["within_one_frame"].values())


def test_ratio_is_taken_within_a_round() -> None:
    ours = [{"true": [10 * MS] * 5}, {"true": [30 * MS] * 5}]
    plain = [{"true": [20 * MS] * 5}, {"true": [40 * MS] * 5}]
    found = live_age.against(ours, plain)["p50_ms"]
    assert found == {"median": 0.625, "min": 0.5, "max": 0.75}
    assert common.ratios([8.0, 9.0], [10.0, 10.0])["median"] == pytest.approx(0.85)


def test_growth_of_a_plain_loops_age() -> None:
    assert live_age.growth({"true": [MS * k for k in range(9)]}) == pytest.approx(6)


def test_memory_growth_is_from_the_second_minute_to_the_last() -> None:
    samples = [(float(second), 500 if second < 60 else 100 + second // 60, 5) for second in range(601)]
    assert live_soak.growth(samples) == 8


def test_observer_records_each_outline_once() -> None:
    observer = common.OutlineObserver()
    moment = time.monotonic_ns()
    image = common.stamped(grey_picture(), moment)
    nothing = Segmentation(np.zeros(image.shape, bool), (), 0, None, None, 0.0, State.NO_NERVE)
    for number, index in enumerate((0, 0, 1)):
        frame, roi = Frame(image, index, moment), Roi.whole(image)
        view = View(number + 1, moment, State.NO_NERVE, "", frame, roi, nothing, moment + 150 * MS)
        observer.on_view(view, moment + 7 * MS)
    assert len(observer.shown_ns) == 2
    assert observer.stamps_ns() == [moment // 1000 * 1000] * 2


def test_memory_source_counts_and_times_its_frames() -> None:
    frames = list(common.MemorySource([grey_picture(), grey_picture()], 60.0, count=3))
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[2].pts_seconds == pytest.approx(2 / 60)


def test_a_meter_leaves_the_first_second_out() -> None:
    meter = live_rate.Meter(0.02)
    meter._begin_ns = time.monotonic_ns() + 10 * MS
    meter._end_ns = meter._begin_ns + 20 * MS
    for _ in range(30):
        time.sleep(0.002)
        meter.on_result(None)  # type: ignore[arg-type]  # it counts, and looks at nothing
    rate = meter.rate()
    assert len(meter.times) < 30
    assert rate.fps == pytest.approx((len(meter.times) - 1) * 1e9 / (meter.times[-1] - meter.times[0]))
    assert rate.threads
