"""Output calibration and the reference of the OOD detector."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.core.errors import DataError
from streamseg.core.types import Frame, InputSpec, OutputCalibration, State
from streamseg.datasets import Sample
from streamseg.phantom import render_still
from streamseg.segmentation.ood_detector import FEATURES, is_out_of_distribution
from streamseg.segmentation.postprocess import expected_dice
from streamseg.segmentation.preprocess import unpadded
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.ood_examples import out_of_distribution_images
from streamseg.training.ood_reference import feature_rows, fit_ood_reference, vary
from streamseg.training.output_calibration import (
    MIN_PRESENCE,
    Observation,
    choose_low_confidence_limit,
    fit_confidence,
    fit_output_calibration,
    fit_presence,
    observe,
)
from streamseg.training.restyle import restyle

SPEC = InputSpec(64, 80, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
BOTH = replace(SPEC, structures=("nerve", "vessel"))


def seen(presence: float, present: bool, dice: float = 0.5, found: bool = True) -> Observation:
    return Observation(present, presence, found, 0.8, dice)


def test_the_presence_limit_separates_nerve_from_no_nerve():
    made = [seen(p, True) for p in (0.4, 0.6, 0.7, 0.9)] + [seen(p, False) for p in (0.0, 0.1, 0.2, 0.5)]
    limit = fit_presence([seen(0.8, True)], made)
    assert 0.2 < limit <= 0.6
    found = [one.presence >= limit for one in made]
    assert sum(found[:4]) >= 3
    assert sum(found[4:]) <= 1


def test_the_presence_limit_gives_up_no_outline_that_overlaps_a_real_nerve():
    made = [seen(0.9, True), seen(0.5, False)]
    assert fit_presence([seen(0.3, True, dice=0.2), seen(0.05, True, dice=0.0)], made) == pytest.approx(0.3)
    assert 0 < fit_presence([], []) <= 1


def test_the_presence_limit_leaves_noise_alone():
    made = [seen(1e-5, True), seen(1e-4, True), seen(1e-6, False), seen(0.9, True), seen(0.0, False)]
    assert fit_presence([], made) >= MIN_PRESENCE


def test_real_frames_without_nerve_raise_the_presence_limit():
    made = [seen(p, True) for p in (0.7, 0.8, 0.9)] + [seen(0.1, False)]
    empty = [seen(p, False, dice=0) for p in (0.45, 0.5, 0.55)] + [seen(0.95, False, dice=0, found=False)]
    assert fit_presence([seen(0.9, True)], made) < 0.55
    assert 0.55 < fit_presence([seen(0.9, True)], made, empty) <= 0.7
    # An outline that overlaps a real nerve is kept, whatever frames without nerve say.
    assert fit_presence([seen(0.3, True)], made, empty) <= 0.3


def test_the_report_tells_sensitivity_and_specificity_on_real_frames():
    given = [one.image for one in samples(12, 500)], samples(6, 600)
    dark = [Sample(str(n), one.image // 8, one.nerve & False, None) for n, one in enumerate(samples(5, 700))]
    options = {"phantoms": 16, "videos": 1}
    _, report = fit_output_calibration(
        [(FakeBackend(SPEC, bright), given[1])], given[0], without_nerve=dark, **options
    )
    real = report["presence"]["real"]
    nerves = sum(bool(one.nerve.any()) for one in given[1])
    assert (real["with"], real["without"]) == (nerves, 5 + 6 - nerves)
    assert 0 <= real["specificity"] <= 1
    _, report = fit_output_calibration([(FakeBackend(SPEC, bright), given[1])], given[0], **options)
    assert report["presence"]["real"]["without"] == 6 - nerves


def test_the_confidence_fit_finds_what_made_the_data():
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.5, 0.99, 4000)
    truth = OutputCalibration(slope=1.7, intercept=-2.0, doubt=0.5)
    chance = np.array([expected_dice(value, truth) for value in raw])
    dice = rng.beta(8 * chance, 8 * (1 - chance))
    slope, intercept = fit_confidence(raw, dice, np.ones_like(raw))
    assert slope == pytest.approx(1.7, abs=0.1)
    assert intercept == pytest.approx(-2.0, abs=0.2)


@pytest.mark.parametrize(
    ("raw", "dice"),
    [([], []), ([0.9], [1.0]), ([1.0, 1.0], [0.0, 0.0]), ([0.2, 0.9], [1.0, 0.0]), ([0.0, 1.0], [0.0, 1.0])],
)
def test_few_or_perfect_outlines_still_give_a_calibration(raw, dice):
    raw, dice = np.array(raw, np.float64), np.array(dice, np.float64)
    slope, intercept = fit_confidence(raw, dice, np.full(len(raw), 50.0))
    OutputCalibration(slope, intercept, choose_low_confidence_limit(raw, dice, np.ones_like(raw)))


def test_doubt_lies_between_bad_and_good():
    expected = np.array([0.3, 0.41, 0.44, 0.56, 0.6, 0.8])
    dice = np.array([0.1, 0.0, 0.3, 0.6, 0.8, 0.9])
    assert choose_low_confidence_limit(expected, dice, np.ones(6)) in (0.45, 0.5, 0.55)


def bright(tensor: np.ndarray) -> np.ndarray:
    """Probability that rises with smoothed brightness: a net of sorts, too sure of itself."""
    grey = cv2.GaussianBlur(np.ascontiguousarray(tensor[0, 0]), (0, 0), 2)
    return (1 / (1 + np.exp(-6 * (grey - 0.8)))).astype(np.float32)


def samples(count: int, seed: int) -> list[Sample]:
    stills = (render_still(seed + number, height=96, width=120) for number in range(count))
    return [Sample(str(number), one.image, one.nerve, one.vessel) for number, one in enumerate(stills)]


def test_observations_hold_what_the_net_shows():
    (sample,) = samples(1, 11)
    half = Sample("half", sample.image, np.ones_like(sample.nerve), None)
    faint = FakeBackend(SPEC, 0.25)
    (found,) = observe([half], faint)["nerve"]
    assert (found.present, found.found, found.dice) == (True, True, 1.0)
    assert found.presence == pytest.approx(0.25)
    assert found.raw == pytest.approx(0.25, abs=1e-4)
    (nothing,) = observe([half], FakeBackend(SPEC, 0.0))["nerve"]
    assert (nothing.found, nothing.presence) == (False, 0.0)


def test_observations_of_vessels_are_of_the_images_with_labels_of_them():
    (sample,) = samples(1, 11)
    unknown = Sample("unknown", sample.image, sample.nerve, None)
    whole = Sample("whole", sample.image, sample.nerve, np.ones_like(sample.nerve))
    planes = np.stack([np.full((64, 80), value, np.float32) for value in (0.0, 0.25)])
    found = observe([unknown, whole], FakeBackend(BOTH, planes))
    assert [len(found["nerve"]), len(found["vessel"])] == [2, 1]
    (vessel,) = found["vessel"]
    assert (vessel.present, vessel.found, vessel.dice) == (True, True, 1.0)
    assert vessel.raw == pytest.approx(0.25, abs=1e-4)
    assert not any(one.found for one in found["nerve"])


def test_a_calibration_is_fitted_reported_and_used():
    backend = FakeBackend(SPEC, bright)
    known, unknown = samples(24, 500), samples(12, 600)
    calibrations, report = fit_output_calibration(
        [(backend, unknown)], [one.image for one in known], phantoms=16, videos=1, say=lambda _: None
    )
    assert set(report) == {"presence", "confidence", "familiar"}
    assert set(calibrations) == {"nerve"}
    outlines = report["confidence"]["phantom"]
    assert abs(outlines["judged_mean"] - outlines["dice_mean"]) < abs(
        outlines["raw_mean"] - outlines["dice_mean"]
    )
    spec = InputSpec.from_json(SPEC.calibrated(calibrations).to_json())
    judged = Segmenter(FakeBackend(spec, bright))
    black = judged.segment(Frame(np.zeros((96, 120), np.uint8), 0, 0))
    assert (black.state, black.confidence, black.contours) == (State.UNLIKE_TRAINING, 0.0, ())
    states = [judged.segment(Frame(one.image, 0, 0)).state for one in unknown]
    assert states.count(State.UNLIKE_TRAINING) <= 3


def test_each_structure_is_calibrated_by_itself_and_the_nerve_as_if_it_were_alone():
    def both(tensor: np.ndarray) -> np.ndarray:
        """Bright tissue is nerve, black is vessel, which it is less sure of."""
        return np.stack([bright(tensor), bright(-tensor) * np.float32(0.6)])

    known, unknown = [one.image for one in samples(12, 500)], samples(12, 600)
    options = {"phantoms": 16, "videos": 1}
    alone, alone_report = fit_output_calibration([(FakeBackend(SPEC, bright), unknown)], known, **options)
    found, report = fit_output_calibration([(FakeBackend(BOTH, both), unknown)], known, **options)
    assert found["nerve"] == alone["nerve"]
    vessel, vessel_report = found["vessel"], report.pop("structures")["vessel"]
    assert report == alone_report
    assert set(vessel_report) == {"presence", "confidence"}
    assert (vessel.slope, vessel.intercept) != (found["nerve"].slope, found["nerve"].intercept)
    assert vessel.presence == vessel_report["presence"]["limit"] >= MIN_PRESENCE
    assert vessel.familiar == ""
    spec = InputSpec.from_json(BOTH.calibrated(found).to_json())
    assert spec.structure("vessel").judgement == vessel
    assert spec.judgement == found["nerve"]


def test_nets_that_stand_in_answer_as_one():
    """Two that are the same net, each with a part of the images, give what the net gives for all."""
    known, unknown = [one.image for one in samples(12, 500)], samples(12, 600)
    options = {"phantoms": 17, "videos": 1}
    one = fit_output_calibration([(FakeBackend(SPEC, bright), unknown)], known, **options)
    parts = [(FakeBackend(SPEC, bright), unknown[:5]), (FakeBackend(SPEC, bright), unknown[5:])]
    assert fit_output_calibration(parts, known, **options) == one
    dark = [parts[0], (FakeBackend(SPEC, 0.0), unknown[5:])]
    found, report = fit_output_calibration(dark, known, **options)
    assert report["confidence"]["validation"]["outlines"] <= 5
    assert report["presence"]["sensitivity"] < one[1]["presence"]["sensitivity"]
    assert found["nerve"].familiar == one[0]["nerve"].familiar


@pytest.fixture(scope="module")
def images():
    return [render_still(seed, height=96, width=120).image for seed in range(300, 380)]


@pytest.fixture(scope="module")
def reference(images):
    return fit_ood_reference([feature_rows(images[:40], SPEC, 2), feature_rows(images[40:], SPEC, 2)])


def test_training_images_and_similar_ones_are_in_distribution(images, reference):
    unseen = [render_still(seed, height=96, width=120).image for seed in range(400, 430)]
    for group, share in ((images, 0.03), (unseen, 0.15)):
        flags = [is_out_of_distribution(image, unpadded(image, SPEC), reference.text) for image in group]
        assert np.mean(flags) <= share
    assert all(0 <= alarms <= 0.1 for alarms in reference.alarms)


def test_out_of_distribution_images_are_detected(images, reference):
    kinds = out_of_distribution_images(images[:6])
    caught = {
        kind: np.mean([is_out_of_distribution(one, unpadded(one, SPEC), reference.text) for one in group])
        for kind, group in kinds.items()
    }
    for kind in ("black", "white", "grey", "noise", "ramps", "text", "negative"):
        assert caught[kind] == 1, kind
    assert caught["turned 90"] >= 0.5
    assert caught["colour Doppler"] >= 0.8


def test_restyled_copies_are_like_the_training_of_a_net_that_was_trained_with_them(images, reference):
    rows = feature_rows(images[:40], SPEC, 2, restyled=3)
    assert rows.shape == (40, 6, len(FEATURES))
    assert np.array_equal(rows[:, :3], feature_rows(images[:40], SPEC, 2))
    assert np.array_equal(rows, feature_rows(images[:40], SPEC, 2, restyled=3))
    wider = fit_ood_reference([rows, feature_rows(images[40:], SPEC, 2)])
    contents = [unpadded(image, SPEC) for image in images[40:]]
    labels = np.zeros((0, *contents[0].shape), np.uint8)
    other = [restyle(one, labels, seed, contents)[0] for seed, one in enumerate(contents)]
    narrow, wide = (
        np.mean([is_out_of_distribution(one, one, found.text) for one in other])
        for found in (reference, wider)
    )
    assert wide < narrow / 2
    kinds = out_of_distribution_images(images[:6])
    for kind in ("black", "white", "grey", "noise", "ramps", "text", "negative", "colour Doppler"):
        flags = [is_out_of_distribution(one, unpadded(one, SPEC), wider.text) for one in kinds[kind]]
        assert np.mean(flags) >= 0.8, kind


def test_settings_change_an_image_but_not_its_size(images):
    content = unpadded(images[0], SPEC)
    rng = np.random.default_rng(0)
    varied = [vary(content, rng) for _ in range(8)]
    assert {(one.shape, one.dtype) for one in varied} == {(content.shape, np.dtype(np.uint8))}
    assert all(2 < np.abs(one.astype(int) - content).mean() < 80 for one in varied)
    again = [vary(content, rng) for rng in [np.random.default_rng(0)] for _ in range(8)]
    assert all(np.array_equal(one, two) for one, two in zip(varied, again, strict=True))


def test_images_too_small_are_left_out_and_too_few_are_refused(images):
    found = feature_rows([images[0], images[1][:4]], SPEC, 1)
    assert found.shape == (1, 2, len(FEATURES))
    with pytest.raises(DataError, match="at least 8"):
        fit_ood_reference([found])
