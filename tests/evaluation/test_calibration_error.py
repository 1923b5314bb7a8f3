"""Calibration and ranking against torchmetrics and scipy, and by hand."""

import numpy as np
import pytest
from scipy import stats

from streamseg.evaluation.calibration_error import Bin, Reliability, auroc, judge_confidence, rank_correlation


def test_calibration_by_hand():
    found = Reliability(10)
    found.add([0.92, 0.94, 0.15, 0.18], [1, 0, 0, 0])
    assert found.bins == (
        Bin(0.1, 0.2, 2, pytest.approx(0.165), 0),
        Bin(0.9, 1.0, 2, pytest.approx(0.93), 0.5),
    )
    assert found.ece == pytest.approx((2 * 0.165 + 2 * 0.43) / 4)
    assert found.brier == pytest.approx((0.08**2 + 0.94**2 + 0.15**2 + 0.18**2) / 4)
    assert found.count == 4


def test_the_border_belongs_to_the_upper_bin_and_one_to_the_last():
    found = Reliability(2)
    found.add(np.float32([0, 0.5, 1, 1.01, -0.01]), [0, 1, 1, 1, 0])
    assert [(part.low, part.count) for part in found.bins] == [(0, 2), (0.5, 3)]
    assert found.bins[0].stated == 0


def test_nothing_added_is_nothing_known():
    found = Reliability()
    assert (found.count, found.ece, found.brier, found.bins) == (0, None, None, ())


@pytest.mark.parametrize("values", [([0.5], [1, 0]), ([float("nan")], [1]), ([0.5], [float("inf")])])
def test_values_that_cannot_be_compared_are_refused(values):
    with pytest.raises(ValueError, match="finite and of one shape"):
        Reliability().add(*values)


@pytest.mark.filterwarnings("ignore")  # of packages that torchmetrics imports
def test_calibration_is_that_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    stated = generator.random((3, 40, 50)).astype(np.float32)
    truth = generator.random(stated.shape) < stated**1.5
    found = Reliability()
    for image, label in zip(stated, truth, strict=True):
        found.add(image, label)
    tensors = torch.from_numpy(stated.ravel()), torch.from_numpy(truth.ravel().astype(np.int64))
    expected = functional.binary_calibration_error(*tensors, n_bins=15, norm="l1")
    assert found.ece == pytest.approx(float(expected), abs=1e-5)
    assert found.brier == pytest.approx(float(((tensors[0] - tensors[1]) ** 2).mean()), rel=1e-5)
    assert auroc(stated.ravel(), truth.ravel()) == pytest.approx(
        float(functional.binary_auroc(*tensors)), abs=1e-5
    )


def test_ranking_is_that_of_scipy_with_ties_too():
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 9, 60) / 10, generator.integers(0, 9, 60) / 10
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    good = b >= 0.5
    wins = stats.mannwhitneyu(a[good], a[~good]).statistic
    assert auroc(a, good) == pytest.approx(wins / (good.sum() * (~good).sum()))


def test_constant_values_have_no_rank_correlation():
    assert rank_correlation([0.5, 0.5], [0.1, 0.9]) is None
    assert rank_correlation([0.1, 0.9], [1, 1]) is None
    assert rank_correlation([0.5], [0.5]) is None
    assert rank_correlation([], []) is None
    assert auroc([0.1, 0.9], [True, True]) is None
    assert auroc([0.1, 0.9], [False, True]) == 1
    assert auroc([0.5, 0.5], [False, True]) == 0.5


def test_a_confidence_is_judged_by_dice():
    found = judge_confidence([0.95, 0.85, 0.3, 0.6], [0.9, 0.8, 0.0, 0.7])
    assert found["ece"] == pytest.approx((0.05 + 0.05 + 0.3 + 0.1) / 4)
    assert (found["spearman"], found["auroc"]) == (pytest.approx(1), 1)
    assert found["bins"][0] == {"low": 0.3, "high": 0.4, "count": 1, "stated": 0.3, "observed": 0.0}
