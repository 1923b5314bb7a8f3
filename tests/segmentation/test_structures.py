"""Structures beside the nerve: each as if it were alone, hidden with the nerve, steadied with it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.backends.fake import ellipse
from streamseg.core.geometry import Letterbox
from streamseg.core.spec import StructureSpec
from streamseg.core.types import Frame, InputSpec, OutputCalibration, Planes, Segmentation, State, Structure
from streamseg.segmentation.ood_detector import FEATURES, features, write_reference
from streamseg.segmentation.postprocess import expected_dice
from streamseg.segmentation.preprocess import unpadded
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter

ALONE = InputSpec(48, 64, mean=0.25, std=0.25, threshold=0.5, min_area=0.002)
SPEC = replace(ALONE, structures=("nerve", "vessel"))
FRAME = (130, 170)
STEP = 33_000_000
NOTHING = np.zeros((48, 64), np.float32)
NERVE, VESSEL = ellipse(ALONE, (0.3, 0.4)), ellipse(ALONE, (0.7, 0.6), (0.1, 0.1))


def segment(
    *planes: np.ndarray, spec: InputSpec = SPEC, spacing: tuple[float, float] | None = None
) -> Segmentation:
    answer: Planes = np.stack(planes)
    frame = Frame(np.zeros(FRAME, np.uint8), 0, 0, spacing_mm=spacing)
    return Segmenter(FakeBackend(spec, lambda _: answer)).segment(frame)


def smooth_noise(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(48, 64)).astype(np.float32)
    return np.asarray(1 / (1 + np.exp(-cv2.GaussianBlur(noise, (0, 0), 4) * 24 + 1)), np.float32)


def same(one: Structure, two: Structure) -> bool:
    """Bit for bit."""
    return (
        np.array_equal(one.mask, two.mask)
        and len(one.contours) == len(two.contours)
        and all(map(np.array_equal, one.contours, two.contours))
        and (one.area_px, one.area_mm2, one.centroid, one.confidence)
        == (two.area_px, two.area_mm2, two.centroid, two.confidence)
    )


@pytest.mark.parametrize("seed", range(8))
def test_each_structure_is_found_as_if_it_were_alone(seed: int) -> None:
    """Also where they overlap: neither outline is cut by the other."""
    nerve, vessel = smooth_noise(seed), smooth_noise(seed + 100)
    both = segment(nerve, vessel, spacing=(0.1, 0.2))
    alone = segment(nerve, spec=ALONE, spacing=(0.1, 0.2))
    assert same(both, alone)
    assert both.state == alone.state
    assert alone.others == {}
    assert same(
        both.others["vessel"], segment(vessel, spec=replace(ALONE, min_area=0.001), spacing=(0.1, 0.2))
    )


def test_a_vessel_is_where_it_was_and_has_its_own_area_and_confidence() -> None:
    found = segment(NERVE, VESSEL, spacing=(0.1, 0.2))
    vessel = found.others["vessel"]
    left, top = Letterbox(*FRAME, SPEC.height, SPEC.width).to_source([[0.7 * 64 - 0.5, 0.6 * 48 - 0.5]])[0]
    assert vessel.centroid == pytest.approx((left, top), abs=0.7)
    assert vessel.area_mm2 == pytest.approx(vessel.area_px * 0.02)
    assert vessel.area_px == np.count_nonzero(vessel.mask)
    assert 0.8 < vessel.confidence < 1
    assert not (vessel.mask & found.mask).any()


@pytest.mark.parametrize(("nerve", "state"), [(NOTHING, State.NO_NERVE), (NERVE, State.NERVE)])
def test_the_state_is_the_nerves(nerve: np.ndarray, state: State) -> None:
    for vessel in (NOTHING, VESSEL):
        found = segment(nerve, vessel)
        assert found.state == state
        assert bool(found.others["vessel"].contours) == bool(vessel.any())


def test_a_structure_that_is_not_there_is_empty_and_sure_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the empty plane is never enlarged to the frame's size."""
    enlarged = []
    undo = Letterbox.undo_part
    monkeypatch.setattr(
        Letterbox, "undo_part", lambda self, image, part: enlarged.append(1) or undo(self, image, part)
    )
    vessel = segment(NERVE, NOTHING).others["vessel"]
    assert (vessel.contours, vessel.area_px, vessel.area_mm2, vessel.centroid) == ((), 0, None, None)
    assert vessel.confidence == 1
    assert vessel.mask.shape == FRAME
    assert not vessel.mask.any()
    assert len(enlarged) == 1


def test_empty_masks_are_shared_but_the_nerves_which_programs_may_write_into() -> None:
    one, two = segment(NOTHING, NOTHING), segment(NOTHING, NOTHING)
    one.mask[3, 4] = True
    assert not two.mask.any()
    with pytest.raises(ValueError, match="read-only"):
        one.others["vessel"].mask[3, 4] = True


def with_limits(**limits: object) -> InputSpec:
    return replace(SPEC, others={"vessel": StructureSpec(**limits)})  # type: ignore[arg-type]


def test_limits_are_the_structures_own() -> None:
    faint = VESSEL * np.float32(0.4)
    assert not segment(NERVE, faint).others["vessel"].contours
    found = segment(NERVE, faint, spec=with_limits(threshold=0.2))
    assert found.others["vessel"].contours
    assert same(found, segment(NERVE, spec=ALONE))
    spot = ellipse(ALONE, (0.7, 0.6), (0.04, 0.04))
    assert segment(NERVE, spot).others["vessel"].contours
    assert not segment(NERVE, spot, spec=with_limits(min_area=0.02)).others["vessel"].contours


def test_a_calibrated_vessel_has_the_expected_dice_and_a_limit_of_presence_of_its_own() -> None:
    fitted = OutputCalibration(2.0, -1.0, doubt=0.0, presence=0.3)
    plain = segment(NERVE, VESSEL, spec=with_limits(judgement=OutputCalibration(1.0, 0.0, 0.0)))
    found = segment(NERVE, VESSEL, spec=with_limits(judgement=fitted))
    mean = plain.others["vessel"].confidence  # with slope 1 and intercept 0: the mean probability inside
    assert found.others["vessel"].confidence == pytest.approx(expected_dice(mean, fitted))
    assert same(found, segment(NERVE, spec=ALONE))
    faint = VESSEL * np.float32(0.4)
    assert segment(NERVE, faint, spec=with_limits(judgement=fitted)).others["vessel"].contours
    strict = replace(fitted, presence=0.9)
    assert not segment(NERVE, faint, spec=with_limits(judgement=strict)).others["vessel"].contours


def test_a_frame_unlike_the_training_data_has_no_structure_either() -> None:
    speckle = np.random.default_rng(0).rayleigh(30, (90, 140)).clip(0, 255).astype(np.uint8)
    familiar = write_reference(features(unpadded(speckle, SPEC)), np.diag(np.full(len(FEATURES), 1.0)))
    spec = replace(SPEC, judgement=OutputCalibration(1.0, 0.0, 0.5, familiar=familiar))
    for withhold in (True, False):
        segmenter = Segmenter(FakeBackend(spec, 1.0), withhold=withhold)
        assert segmenter.segment(Frame(speckle, 0, 0)).others["vessel"].contours
        found = segmenter.segment(Frame(255 - speckle, 1, 0))
        assert found.state == State.UNLIKE_TRAINING
        assert bool(found.others["vessel"].contours) == bool(found.contours) == (not withhold)
        if withhold:
            vessel = found.others["vessel"]
            assert (vessel.area_px, vessel.confidence, vessel.mask.any()) == (0, 0.0, False)


def tissue(k: int) -> np.ndarray:
    image = np.random.default_rng(0).rayleigh(30, FRAME) + np.random.default_rng((1, k)).integers(
        -2, 3, FRAME
    )
    return image.clip(0, 255).astype(np.uint8)


def play(*planes: list[np.ndarray], spec: InputSpec = SPEC) -> list[Segmentation]:
    """Live outlines of tissue at rest; each plane's maps frame by frame."""
    answers = iter([np.stack(maps) for maps in zip(*planes, strict=True)])
    segmenter = Segmenter(FakeBackend(spec, lambda _: next(answers)), steady=TemporalFilter())
    return [segmenter.segment(Frame(tissue(k), k, k * STEP)) for k in range(len(planes[0]))]


def test_both_flicker_no_more_and_neither_changes_the_other() -> None:
    """A structure that is seen in single frames is not shown; one that is missed once stays."""
    flickering = [NOTHING, VESSEL * np.float32(0.6), NOTHING, NOTHING, NOTHING]
    missed = [NERVE, NERVE, NERVE * np.float32(0.4), NERVE, NERVE]
    shown = play(missed, flickering)
    assert [bool(found.contours) for found in shown] == [True] * 5
    assert [bool(found.others["vessel"].contours) for found in shown] == [False] * 5
    for found, alone in zip(shown, play(missed, spec=ALONE), strict=True):
        assert same(found, alone)
    turned = play(flickering, missed)
    assert [bool(found.contours) for found in turned] == [False] * 5
    assert [bool(found.others["vessel"].contours) for found in turned] == [True] * 5
