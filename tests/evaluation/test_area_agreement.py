"""Bias and limits of agreement of areas."""

import pytest

from streamseg.evaluation.area_agreement import agreement, percent_difference


def test_bias_and_limits_by_hand():
    found = agreement([1.0, 3.0, -1.0, 5.0])
    assert found.bias == 2
    assert found.high - found.bias == pytest.approx(1.96 * 2.582, rel=1e-3)
    assert found.bias - found.low == pytest.approx(found.high - found.bias)
    assert found.bias_interval[0] < 2 < found.bias_interval[1]


def test_one_difference_has_no_limits_and_none_nothing():
    found = agreement([4.0])
    assert (found.bias, found.bias_interval, found.low, found.high) == (4, None, None, None)
    assert agreement([]) is None


def test_percent_are_of_the_mean_of_both():
    assert percent_difference(150, 50) == 100
    assert percent_difference(50, 150) == -100
