"""The segmenter: its three steps, the region, and faulty engines."""

import time
from dataclasses import replace

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.backends.fake import ellipse
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.latency import StageClock
from streamseg.core.types import Frame, InputSpec, OutputCalibration, Roi, State, Tensor
from streamseg.segmentation.ood_detector import FEATURES, features, write_reference
from streamseg.segmentation.preprocess import unpadded
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)


def frame_of(image: np.ndarray, spacing: tuple[float, float] | None = None) -> Frame:
    return Frame(image, 0, time.monotonic_ns(), spacing_mm=spacing)


def bright(tensor: Tensor) -> np.ndarray:
    """Nerve where the normalised input is above mid-grey."""
    return (tensor[0, 0] > (0.5 - SPEC.mean) / SPEC.std).astype(np.float32)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_bright_square_is_found_where_it_is(channels: tuple[int, ...]) -> None:
    image = np.zeros((120, 160, *channels), np.uint8)
    image[40:80, 60:110] = 255
    found = Segmenter(FakeBackend(SPEC, bright)).segment(frame_of(image, (0.5, 0.5)))
    assert found.state == State.NERVE
    assert found.centroid == pytest.approx((84.5, 59.5), abs=1)
    assert found.area_px == pytest.approx(2000, rel=0.15)
    assert found.area_mm2 == found.area_px / 4


def test_only_the_region_is_segmented() -> None:
    image = np.full((120, 160), 255, np.uint8)
    roi = Roi(30, 20, 96, 64)
    roi.crop(image)[:] = 0
    assert Segmenter(FakeBackend(SPEC, bright), roi).segment(frame_of(image)).state == State.NO_NERVE
    found = Segmenter(FakeBackend(SPEC, 1.0), roi).segment(frame_of(image))
    expected = np.zeros((120, 160), np.bool_)
    expected[20:84, 30:126] = True
    assert np.array_equal(found.mask, expected)


def test_steps_one_by_one_are_the_whole() -> None:
    frame = frame_of(np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8))
    segmenter = Segmenter(FakeBackend(SPEC), Roi(5, 5, 60, 80))
    prepared = segmenter.prepare(frame)
    assert prepared.tensor.shape == (1, 1, 32, 48)
    assert prepared.tensor.dtype == np.float32
    one_by_one = segmenter.finish(prepared, segmenter.infer(prepared))
    clock = StageClock()
    whole = segmenter.segment(frame, clock)
    assert np.array_equal(one_by_one.mask, whole.mask)
    assert list(clock.stage_ns) == ["preprocess", "infer", "postprocess"]
    assert whole.probability is not None
    assert np.array_equal(whole.probability, ellipse(SPEC))


def test_a_region_outside_the_frame_names_the_largest_that_fits() -> None:
    segmenter = Segmenter(FakeBackend(SPEC), Roi(0, 0, 100, 100))
    segmenter.segment(frame_of(np.zeros((100, 100), np.uint8)))
    with pytest.raises(UsageError, match="0,0,100,99"):
        segmenter.segment(frame_of(np.zeros((99, 100), np.uint8)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 7.0])
def test_values_that_are_no_probabilities_are_an_engine_error(bad: float) -> None:
    answer = np.zeros((32, 48), np.float32)
    answer[3, 4] = bad
    segmenter = Segmenter(FakeBackend(SPEC, answer))
    with pytest.raises(EngineError, match="no probabilities"):
        segmenter.segment(frame_of(np.zeros((50, 50), np.uint8)))


def test_an_engine_with_an_answer_of_another_size_is_refused() -> None:
    segmenter = Segmenter(FakeBackend(SPEC, lambda tensor: np.zeros((16, 48), np.float32)))
    with pytest.raises(EngineError, match="16, 48"):
        segmenter.segment(frame_of(np.zeros((50, 50), np.uint8)))


def judged(image: np.ndarray) -> InputSpec:
    """A specification to which only images like this one are familiar."""
    centre = features(unpadded(image, SPEC))
    familiar = write_reference(centre, np.diag(np.full(len(FEATURES), 1.0)))
    return replace(SPEC, judgement=OutputCalibration(1.0, 0.0, 0.5, familiar=familiar))


def test_a_frame_unlike_the_training_data_gets_no_outline() -> None:
    speckle = np.random.default_rng(0).rayleigh(30, (90, 140)).clip(0, 255).astype(np.uint8)
    spec = judged(speckle)
    segmenter = Segmenter(FakeBackend(spec, 1.0))
    assert segmenter.segment(frame_of(speckle)).state == State.NERVE
    for strange in (np.zeros_like(speckle), 255 - speckle, speckle[:, :30]):
        found = segmenter.segment(frame_of(strange, (0.1, 0.1)))
        assert found.state == State.UNLIKE_TRAINING
        assert (found.area_px, found.area_mm2, found.centroid) == (0, None, None)
        assert (found.contours, found.confidence, found.mask.shape) == ((), 0.0, strange.shape)
        assert not found.mask.any()
        assert found.probability is not None


def test_without_withholding_a_frame_unlike_the_training_data_keeps_its_outline() -> None:
    speckle = np.random.default_rng(0).rayleigh(30, (90, 140)).clip(0, 255).astype(np.uint8)
    segmenter = Segmenter(FakeBackend(judged(speckle), 1.0), withhold=False)
    found = segmenter.segment(frame_of(255 - speckle))
    assert found.state == State.UNLIKE_TRAINING
    assert found.area_px == speckle.size
    assert found.contours


def test_only_the_region_and_its_colours_are_checked() -> None:
    speckle = np.random.default_rng(0).rayleigh(30, (90, 140)).clip(0, 255).astype(np.uint8)
    screen = np.full((200, 300, 3), (250, 40, 40), np.uint8)
    roi = Roi(50, 60, 140, 90)
    roi.crop(screen)[:] = speckle[..., None]
    spec = judged(speckle)
    assert Segmenter(FakeBackend(spec, 1.0), roi).segment(frame_of(screen.copy())).state == State.NERVE
    assert Segmenter(FakeBackend(spec, 1.0)).segment(frame_of(screen.copy())).state == State.UNLIKE_TRAINING
    roi.crop(screen)[30:45, 40:60] = (30, 30, 230)
    assert Segmenter(FakeBackend(spec, 1.0), roi).segment(frame_of(screen)).state == State.UNLIKE_TRAINING


def test_an_output_calibration_of_another_version_is_refused_before_the_first_frame() -> None:
    spec = replace(SPEC, judgement=OutputCalibration(1.0, 0.0, 0.5, familiar="1 2"))
    with pytest.raises(EngineError, match="export it again"):
        Segmenter(FakeBackend(spec))


def tissue(k: int) -> np.ndarray:
    """Frame k of tissue at rest: the same structures, a little other speckle."""
    rng = np.random.default_rng(0)
    image = rng.rayleigh(30, (90, 140)) + np.random.default_rng((1, k)).integers(-2, 3, (90, 140))
    return image.clip(0, 255).astype(np.uint8)


def moments(images: list[np.ndarray]) -> list[Frame]:
    """Frames of these images, 30 in a second."""
    return [Frame(image, k, k * 33_000_000) for k, image in enumerate(images)]


def test_steady_outlines_appear_with_the_second_frame_and_leave_with_the_first_without_evidence() -> None:
    answers = iter([0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.3, 1.0, 0.2, 0.0])
    backend = FakeBackend(SPEC, lambda tensor: np.full((32, 48), next(answers), np.float32))
    segmenter = Segmenter(backend, steady=TemporalFilter())
    seen = [segmenter.segment(frame).state for frame in moments([tissue(k) for k in range(10)])]
    shown = "".join("." if state == State.NO_NERVE else "#" for state in seen)
    assert shown == ".....###.."


def test_a_frame_unlike_the_training_data_has_no_outline_whatever_came_before() -> None:
    segmenter = Segmenter(FakeBackend(judged(tissue(0)), 1.0), steady=TemporalFilter())
    images = [tissue(0), tissue(1), 255 - tissue(2), np.zeros((90, 140), np.uint8), *map(tissue, range(4, 8))]
    found = [segmenter.segment(frame) for frame in moments(images)]
    strange = [one.state == State.UNLIKE_TRAINING for one in found]
    assert strange[:4] == [False, False, True, True]
    assert strange[5:] == [False] * 3
    assert all(one.mask.any() != (one.state == State.UNLIKE_TRAINING) for one in found)


def test_another_region_of_the_frame_has_no_history() -> None:
    answers = iter([0.0, 0.0, 1.0, 0.0, 1.0])
    backend = FakeBackend(SPEC, lambda tensor: np.full((32, 48), next(answers), np.float32))
    segmenter = Segmenter(backend, Roi(0, 0, 120, 80), steady=TemporalFilter())
    frames = moments([tissue(k) for k in range(5)])
    seen = [segmenter.segment(frame).state for frame in frames[:2]]
    segmenter.roi = Roi(15, 0, 120, 80)
    seen += [segmenter.segment(frame).state for frame in frames[2:]]
    assert [state == State.NERVE for state in seen] == [False, False, True, False, False]


def test_without_steady_each_frame_is_segmented_alone() -> None:
    answers = iter([0.0, 1.0, 0.0])
    backend = FakeBackend(SPEC, lambda tensor: np.full((32, 48), next(answers), np.float32))
    segmenter = Segmenter(backend)
    seen = [segmenter.segment(frame).state for frame in moments([tissue(k) for k in range(3)])]
    assert seen == [State.NO_NERVE, State.NERVE, State.NO_NERVE]
