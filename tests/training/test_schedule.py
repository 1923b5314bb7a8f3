import pytest

from streamseg.training.config import WARM_STEPS, rate_at, recipe


def rates(schedule, steps):
    config = recipe("paper", schedule=schedule, learning_rate=1.0)
    return [rate_at(step, steps, config) for step in range(steps)]


def test_constant_is_constant():
    assert set(rates("constant", 50)) == {1.0}


def test_warm_rises_and_stays():
    found = rates("warm", 100)
    assert found[0] == pytest.approx(1 / 25)
    assert found[:11] == sorted(found[:11])
    assert set(found[10:]) == {1.0}


def test_one_cycle_rises_and_falls_to_nothing():
    found = rates("one-cycle", 100)
    assert max(found) == found[10] == 1
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[-1] < 1e-3


def test_the_rise_of_a_long_run_is_bounded():
    assert rates("warm", 100 * WARM_STEPS)[WARM_STEPS] == 1


@pytest.mark.parametrize("schedule", ["constant", "warm", "one-cycle"])
def test_one_step_is_enough(schedule):
    assert 0 < rates(schedule, 1)[0] <= 1
