"""The fit of what is familiar, on phantoms that stand for two kinds of training pictures."""

import numpy as np
import pytest

from streamseg.core.errors import DataError
from streamseg.core.types import InputSpec
from streamseg.phantom import render_still
from streamseg.segmentation.ood_detector import FEATURES, is_out_of_distribution
from streamseg.segmentation.preprocess import unpadded
from streamseg.training.ood_examples import out_of_distribution_images
from streamseg.training.ood_reference import feature_rows, fit_ood_reference, vary

SPEC = InputSpec(64, 80, mean=0.25, std=0.25, threshold=0.5)


@pytest.fixture(scope="module")
def pictures():
    return [render_still(seed, height=96, width=120).image for seed in range(300, 380)]


@pytest.fixture(scope="module")
def familiar(pictures):
    return fit_ood_reference([feature_rows(pictures[:40], SPEC, 2), feature_rows(pictures[40:], SPEC, 2)])


def test_what_was_learnt_from_and_its_like_are_familiar(pictures, familiar):
    unseen = [render_still(seed, height=96, width=120).image for seed in range(400, 430)]
    for group, share in ((pictures, 0.03), (unseen, 0.15)):
        flags = [is_out_of_distribution(picture, unpadded(picture, SPEC), familiar.text) for picture in group]
        assert np.mean(flags) <= share
    assert all(0 <= alarms <= 0.1 for alarms in familiar.alarms)


def test_what_is_unlike_is_told_apart(pictures, familiar):
    kinds = out_of_distribution_images(pictures[:6])
    caught = {
        kind: np.mean([is_out_of_distribution(one, unpadded(one, SPEC), familiar.text) for one in group])
        for kind, group in kinds.items()
    }
    for kind in ("black", "white", "grey", "noise", "ramps", "text", "negative"):
        assert caught[kind] == 1, kind
    assert caught["turned 90"] >= 0.5
    assert caught["colour Doppler"] >= 0.8


def test_settings_change_a_picture_but_not_its_size(pictures):
    content = unpadded(pictures[0], SPEC)
    rng = np.random.default_rng(0)
    varied = [vary(content, rng) for _ in range(8)]
    assert {(one.shape, one.dtype) for one in varied} == {(content.shape, np.dtype(np.uint8))}
    assert all(2 < np.abs(one.astype(int) - content).mean() < 80 for one in varied)
    again = [vary(content, rng) for rng in [np.random.default_rng(0)] for _ in range(8)]
    assert all(np.array_equal(one, two) for one, two in zip(varied, again, strict=True))


def test_pictures_too_small_are_left_out_and_too_few_are_refused(pictures):
    found = feature_rows([pictures[0], pictures[1][:4]], SPEC, 1)
    assert found.shape == (1, 2, len(FEATURES))
    with pytest.raises(DataError, match="at least 8"):
        fit_ood_reference([found])
