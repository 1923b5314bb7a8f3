"""Figures worked out from stored results."""

import numpy as np
import pytest
from scipy import stats

from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import Interval, summarise, t_interval
from tests.reproduction.stored import write_stored


def test_figures_of_a_net(tmp_path):
    results = read_results(write_stored(tmp_path))
    found = summarise(results).nets["improved_unet"]
    dice = results.dice("improved_unet")
    assert found.dice.mean == pytest.approx(dice.mean())
    assert found.dice.low < found.dice.mean < found.dice.high
    assert found.dice_median == pytest.approx(np.median(dice))
    assert found.dice_folds == pytest.approx([dice[i : i + 12].mean() for i in range(0, 48, 12)])
    assert found.step_seconds == pytest.approx([1.0] * 4)


def test_pairs_are_compared_both_ways(tmp_path):
    comparisons = summarise(read_results(write_stored(tmp_path))).comparisons
    assert len(comparisons) == 6
    there, back = comparisons["improved_unet", "segnet"], comparisons["segnet", "improved_unet"]
    assert there.dice.mean == pytest.approx(0.075)  # 0.1 on the three quarters with nerve
    assert back.dice.mean == pytest.approx(-0.075)
    assert there.p_value < 0.001
    assert there.time_ratios == pytest.approx([0.2] * 4)
    assert there.gain_percent == pytest.approx(100 * 0.075 / (0.25 + 0.75 * 0.6), abs=0.1)


def test_nothing_without_a_complete_fold(tmp_path):
    summary = summarise(read_results(write_stored(tmp_path, folds=2, missing=[("unet", 0), ("segnet", 1)])))
    assert (summary.nets, summary.comparisons) == ({}, {})


def test_t_interval_is_that_of_scipy():
    values = [0.1, 0.3, -0.05, 0.2]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_value_says_nothing_of_how_it_varies():
    assert t_interval([0.3]) == Interval(0.3, None, None)
    assert Interval.of(0.3, float("nan"), float("nan")).text() == "0.300 [unknown]"
    assert Interval(0.3, 0.1, 0.5).text("+.2f") == "+0.30 [+0.10, +0.50]"
    assert not Interval(0.3, None, None).above_zero
    assert not Interval(-0.3, None, None).below_zero
