"""Risk against coverage."""

import numpy as np
import pytest

from streamseg.evaluation.risk_coverage import risk_coverage


def test_a_curve_by_hand():
    found = risk_coverage([0.9, 0.2, 0.6], [1.0, 0.5, 0.0])
    assert [point.risk for point in found.points] == pytest.approx([0, 0.5, 0.5])
    assert [point.coverage for point in found.points] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [point.confidence for point in found.points] == [0.9, 0.6, 0.2]
    assert found.aurc == pytest.approx(1 / 3)
    assert found.aurc_best == pytest.approx((0 + 0.25 + 0.5) / 3)


def test_equal_confidences_say_nothing_in_whatever_order_images_come():
    dice = np.linspace(0, 1, 20)
    for order in (dice, dice[::-1]):
        found = risk_coverage([0.7] * 20, list(order))
        assert found.aurc == pytest.approx(0.5)
        assert {round(point.risk, 9) for point in found.points} == {0.5}


def test_no_outlines_have_no_curve():
    assert risk_coverage([], []) is None
