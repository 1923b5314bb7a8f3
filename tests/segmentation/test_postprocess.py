"""Probabilities to a nerve in frame pixels: against a naive version, and rules that always hold."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.backends.fake import ellipse
from streamseg.core.geometry import Letterbox
from streamseg.core.latency import StageClock
from streamseg.core.types import Frame, InputSpec, OutputCalibration, Roi, Segmentation, State
from streamseg.segmentation import postprocess as module
from streamseg.segmentation.postprocess import LOW_CONFIDENCE, expected_dice, postprocess, presence
from streamseg.segmentation.preprocess import prepare

SPEC = InputSpec(48, 64, mean=0.25, std=0.25, threshold=0.5, min_area=0.002)
FRAME = (130, 170)
ROI = Roi(20, 10, 120, 100)

Map = npt.NDArray[np.float32]


def segment(
    probability: Map,
    roi: Roi = ROI,
    spec: InputSpec = SPEC,
    frame: tuple[int, ...] = FRAME,
    spacing: tuple[float, float] | None = None,
) -> Segmentation:
    whole = Frame(np.zeros(frame, np.uint8), 0, 0, spacing_mm=spacing)
    return postprocess(prepare(whole, roi, spec, StageClock()), probability[None], spec)


def naive_mask(probability: Map, roi: Roi, spec: InputSpec, frame: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Enlarge all, cut at the threshold, fill, drop small parts: each in the plainest way."""
    letterbox = Letterbox(roi.height, roi.width, spec.height, spec.width)
    reached = (letterbox.undo(probability) >= spec.threshold).astype(np.uint8)
    # Holes are background that the outside does not reach without stepping diagonally.
    padded = np.pad(reached, 1)
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    filled = (padded[1:-1, 1:-1] != 2).astype(np.uint8)
    count, labels = cv2.connectedComponents(filled, connectivity=8)
    mask = np.zeros(frame[:2], np.bool_)
    for part in range(1, count):
        pixels = labels == part
        if pixels.sum() >= spec.min_area * roi.width * roi.height:
            roi.crop(mask.view(np.uint8))[pixels] = 1
    return mask


@pytest.mark.parametrize("frame", [(130, 170), (40, 50)])
def test_large_regions_are_cut_strip_by_strip(
    frame: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The enlarged map of an image of 88 megapixels took 350 MB."""
    roi = Roi(3, 2, frame[1] - 5, frame[0] - 4)
    for seed in range(5):
        probability = smooth_noise(seed, SPEC, 5, 0)
        whole = segment(probability, roi, frame=frame)
        with monkeypatch.context() as patched:
            patched.setattr(module, "_WHOLE_PIXELS", 0)
            patched.setattr(module, "_STRIP_PIXELS", 1000)
            strips = segment(probability, roi, frame=frame)
        assert np.count_nonzero(strips.mask != whole.mask) <= 2
        assert strips.state == whole.state
        assert strips.confidence == pytest.approx(whole.confidence, abs=1e-3)
        assert (whole.centroid is None) == (strips.centroid is None)
        if whole.centroid is not None:
            assert strips.centroid == pytest.approx(whole.centroid, abs=0.1)


def test_a_strip_is_all_of_the_enlarged_map_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of the nerve's rows took 250 MB once more, of an image of 88 megapixels."""
    held: list[int] = []
    undo = Letterbox.undo_rows

    def undo_rows(self: Letterbox, image: Map, first: int, end: int) -> Map:
        held.append((end - first) * self.source_width)
        return undo(self, image, first, end)

    monkeypatch.setattr(Letterbox, "undo_rows", undo_rows)
    monkeypatch.setattr(module, "_WHOLE_PIXELS", 0)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1000)
    assert segment(ellipse(SPEC, (0.5, 0.5), (0.3, 0.4))).state == State.NERVE
    assert max(held) <= 1000


def smooth_noise(seed: int, spec: InputSpec, blur: float, level: float) -> Map:
    noise = np.random.default_rng(seed).normal(size=(spec.height, spec.width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) * blur * 6 + level
    return np.asarray(1 / (1 + np.exp(-noise)), np.float32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Map, Roi, InputSpec, tuple[int, int]]:
    height, width = draw(st.integers(16, 64)), draw(st.integers(16, 64))
    threshold = draw(st.floats(0.1, 0.9))
    spec = InputSpec(height, width, 0.25, 0.25, threshold, min_area=draw(st.sampled_from([0.0, 0.001, 0.02])))
    roi = Roi(
        draw(st.integers(0, 20)), draw(st.integers(0, 20)), draw(st.integers(8, 90)), draw(st.integers(8, 90))
    )
    frame = (roi.y + roi.height + draw(st.integers(0, 9)), roi.x + roi.width + draw(st.integers(0, 9)))
    blur, level = draw(st.floats(0.4, 6)), draw(st.floats(-4, 3))
    return smooth_noise(draw(st.integers(0, 2**16)), spec, blur, level), roi, spec, frame


@settings(max_examples=150, deadline=None)
@given(cases())
def test_agrees_with_the_naive_version_and_keeps_its_own_books(
    case: tuple[Map, Roi, InputSpec, tuple[int, int]],
) -> None:
    probability, roi, spec, frame = case
    found = segment(probability, roi, spec, frame)
    assert np.array_equal(found.mask, naive_mask(probability, roi, spec, frame))
    assert found.mask.dtype == np.bool_
    assert found.mask.shape == frame
    assert found.area_px == np.count_nonzero(found.mask)
    assert 0 <= found.confidence <= 1
    outside = found.mask.copy()
    roi.crop(outside.view(np.uint8))[:] = 0
    assert not outside.any()
    if not found.mask.any():
        assert (found.state, found.contours, found.centroid) == (State.NO_NERVE, (), None)
        return
    low = found.confidence < LOW_CONFIDENCE
    assert found.state == (State.LOW_CONFIDENCE if low else State.NERVE)
    rows, columns = np.nonzero(found.mask)
    assert found.centroid == pytest.approx((columns.mean(), rows.mean()))


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_outlines_filled_are_the_mask_and_the_largest_comes_first(
    case: tuple[Map, Roi, InputSpec, tuple[int, int]],
) -> None:
    probability, roi, spec, frame = case
    found = segment(probability, roi, spec, frame)
    drawn = np.zeros(frame, np.uint8)
    areas = []
    for contour in found.contours:
        assert contour.dtype == np.int32
        assert contour.ndim == 2
        one = cv2.drawContours(np.zeros(frame, np.uint8), [contour], -1, 1, cv2.FILLED)
        areas.append(int(one.sum()))
        drawn |= one
    assert np.array_equal(drawn.view(np.bool_), found.mask)
    assert areas == sorted(areas, reverse=True)
    assert sum(areas) == found.area_px


def test_a_blob_lands_where_it_was_in_the_roi() -> None:
    found = segment(ellipse(SPEC, centre=(0.25, 0.75), radii=(0.1, 0.1)))
    # The letterbox fits 120x100 into 64x48 with margins left and right: 57 or 58 columns of content.
    letterbox = Letterbox(100, 120, SPEC.height, SPEC.width)
    x, y = letterbox.to_source([[0.25 * 64 - 0.5, 0.75 * 48 - 0.5]])[0]
    assert found.state == State.NERVE
    assert found.centroid == pytest.approx((x + ROI.x, y + ROI.y), abs=0.7)


def test_shifting_the_roi_shifts_the_result_exactly() -> None:
    probability = ellipse(SPEC, centre=(0.4, 0.4))
    here = segment(probability)
    there = segment(probability, Roi(ROI.x + 7, ROI.y + 11, ROI.width, ROI.height))
    assert np.array_equal(np.roll(here.mask, (11, 7), (0, 1)), there.mask)
    assert np.array_equal(here.contours[0] + (7, 11), there.contours[0])


def test_area_in_square_millimetres_is_row_times_column_spacing() -> None:
    found = segment(ellipse(SPEC), spacing=(0.1, 0.2))
    assert found.area_mm2 == pytest.approx(found.area_px * 0.02)
    assert segment(ellipse(SPEC)).area_mm2 is None
    assert segment(np.zeros((48, 64), np.float32), spacing=(0.1, 0.2)).area_mm2 is None


def test_holes_are_filled() -> None:
    ring = ellipse(SPEC, softness=0.01) - ellipse(SPEC, radii=(0.1, 0.07), softness=0.01)
    disc = ellipse(SPEC, softness=0.01)
    assert np.array_equal(segment(ring).mask, segment(disc).mask)


def test_parts_below_the_minimum_area_are_dropped_and_others_remain() -> None:
    large, small = ellipse(SPEC, (0.3, 0.3), (0.1, 0.1)), ellipse(SPEC, (0.8, 0.8), (0.02, 0.02))
    assert np.array_equal(segment(large + small).mask, segment(large).mask)
    lenient = InputSpec(48, 64, 0.25, 0.25, 0.5, min_area=0.0)
    assert len(segment(large + small, spec=lenient).contours) == 2


@pytest.mark.parametrize("shape", [(100, 140), (100, 140, 3)])
def test_a_mask_at_the_frame_edges_is_whole(shape: tuple[int, ...]) -> None:
    found = segment(np.ones((48, 64), np.float32), Roi(0, 0, 140, 100), frame=shape)
    assert found.mask.all()
    assert found.area_px == 14_000
    assert found.confidence == pytest.approx(1)


def test_margins_of_the_letterbox_count_for_nothing() -> None:
    letterbox = Letterbox(ROI.height, ROI.width, SPEC.height, SPEC.width)
    probability = np.ones((48, 64), np.float32)
    left, top, width, height = letterbox.content
    assert width < 64
    probability[top : top + height, left : left + width] = 0
    found = segment(probability)
    assert (found.state, found.confidence) == (State.NO_NERVE, 1.0)


def noise_map(seed: int) -> Map:
    return smooth_noise(seed, SPEC, 4, -2)


@pytest.mark.parametrize("seed", range(5))
def test_confidence_of_a_nerve_is_the_dice_to_be_expected(seed: int) -> None:
    """Draw truths from the probabilities themselves; their mean Dice is the confidence."""
    roi, frame = Roi(0, 0, 64, 48), (48, 64)  # one frame pixel per sample, so that the draw is exact
    probability = np.clip(ellipse(SPEC, softness=0.5) * 0.9 + noise_map(seed) * 0.1, 0, 1)
    found = segment(probability, roi, frame=frame)
    generator = np.random.default_rng(seed)
    truths = generator.random((400, 48, 64)) < probability
    overlap = (truths & found.mask).sum((1, 2))
    dice = 2 * overlap / (found.area_px + truths.sum((1, 2)))
    assert found.confidence == pytest.approx(dice.mean(), abs=0.01)


def test_confidence_falls_with_doubt() -> None:
    sharp, soft = segment(ellipse(SPEC, softness=0.02)), segment(ellipse(SPEC, softness=0.8))
    elsewhere = segment(np.maximum(ellipse(SPEC, softness=0.02), np.float32(0.45)))
    assert sharp.confidence > 0.95
    assert soft.confidence < sharp.confidence - 0.1
    assert elsewhere.state == State.LOW_CONFIDENCE


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (lambda: np.full((48, 64), 0.02, np.float32), 0.979, 0.981),
        (lambda: ellipse(SPEC) * np.float32(0.48), 0.52, 0.56),
        (lambda: ellipse(SPEC, radii=(0.01, 0.01), softness=0.1), 0.9, 1.0),
    ],
)
def test_confidence_of_no_nerve(make: Callable[[], Map], low: float, high: float) -> None:
    found = segment(make())
    assert found.state == State.NO_NERVE
    assert low <= found.confidence <= high


def judged(**changes: float) -> InputSpec:
    values = {"slope": 2.0, "intercept": -1.0, "doubt": 0.5, "presence": 0.3} | changes
    return replace(SPEC, judgement=OutputCalibration(**values))


def test_calibrated_confidence_is_the_expected_dice() -> None:
    """Slope and intercept act on the mean probability inside, and the doubt on what comes out."""
    probability = ellipse(SPEC) * np.float32(0.8)
    inside = float(segment(probability, spec=judged(slope=1.0, intercept=0.0)).confidence)
    assert 0.6 < inside <= 0.8
    found = segment(probability, spec=judged())
    assert found.confidence == pytest.approx(expected_dice(inside, OutputCalibration(2.0, -1.0, 0.5)))
    assert found.state == State.NERVE
    assert segment(probability, spec=judged(intercept=-3.0)).state == State.LOW_CONFIDENCE
    assert np.array_equal(found.mask, segment(probability).mask)


@pytest.mark.parametrize("raw", [0.0, 1e-9, 0.5, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("slope", [0.01, 1.0, 50.0, 1e6])
def test_expected_dice_stays_between_0_and_1_and_rises(raw: float, slope: float) -> None:
    judgement = OutputCalibration(slope, 0.3, 0.5)
    assert 0 <= expected_dice(raw, judgement) <= expected_dice(min(1.0, raw + 0.1), judgement) <= 1


def test_presence_decides_whether_and_the_threshold_where() -> None:
    faint = ellipse(SPEC) * np.float32(0.4)
    assert segment(faint).state == State.NO_NERVE
    found = segment(faint, spec=judged())
    assert found.area_px == pytest.approx(segment(ellipse(SPEC)).area_px, rel=0.2)
    assert segment(faint, spec=judged(presence=0.45)).state == State.NO_NERVE
    strong = ellipse(SPEC) * np.float32(0.9)
    assert segment(strong, spec=judged(presence=0.95)).state == State.NO_NERVE
    assert segment(faint, spec=judged(presence=0.0)).state == State.NO_NERVE


def test_presence_wants_a_patch_not_a_pixel() -> None:
    spot = np.zeros((48, 64), np.float32)
    assert presence(spot) == 0
    spot[20, 30] = 1
    assert presence(spot) <= 0.25
    spot[18:24, 28:34] = 1
    assert presence(spot) == pytest.approx(1)
    assert presence(np.full((1, 1), 0.5, np.float32)) == pytest.approx(0.5)
