import pytest

from streamseg.core.errors import UsageError
from streamseg.training.config import OPEN_CHOICES, RECIPES, WARM_STEPS, is_flat, rate_at, recipe


def test_the_paper_s_recipe_is_the_paper_s():
    paper = recipe("paper")
    assert (paper.loss, paper.weight_decay, paper.schedule) == ("dice", 0, "constant")
    assert (paper.strength, paper.average, paper.vessel_weight, paper.outputs) == (0, 0, 0, 1)


def test_choices_that_the_paper_leaves_open_name_the_value_used():
    paper = recipe("paper")
    assert f"{paper.height}x{paper.width}" in OPEN_CHOICES["input size"]
    assert str(paper.batch) in OPEN_CHOICES["batch"]
    rate = f"{paper.learning_rate:.0e}".replace("e-0", "e-")
    assert rate in OPEN_CHOICES["learning rate"]
    assert f"{paper.smoothing:g}" in OPEN_CHOICES["k of the loss"]


@pytest.mark.parametrize("name", RECIPES)
def test_changes_are_taken_and_none_leaves_a_value(name):
    changed = recipe(name, epochs=3, learning_rate=None, net="unet")
    assert (changed.recipe, changed.epochs, changed.net) == (name, 3, "unet")
    assert changed.learning_rate == recipe(name).learning_rate
    assert changed.spec.height == changed.height


def test_the_best_recipe_is_the_measured_one():
    best = recipe("best")
    assert (best.schedule, best.learning_rate, best.weight_decay) == ("one-cycle", 1e-3, 1e-2)
    assert (best.average, best.strength, best.restyle, best.soft) == (0.998, 1.5, 0.7, 0)
    assert (best.outputs, best.spec.structures) == (2, ("nerve", "vessel"))
    assert (best.height, best.width) == (192, 224)
    lite = recipe("best", net="lite_unet")
    assert (lite.height, lite.width) == (256, 256)
    assert recipe("best", net="lite_unet", height=128, width=160).height == 128
    assert (best.phantom_batch, best.absent_batch) == (0, 0)  # the command adds them if there are any


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 100}, "multiples of 16"),
        ({"width": 16}, "at least 32"),
        ({"epochs": 0}, "epochs 0"),
        ({"learning_rate": -1.0}, "learning_rate -1"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"restyle": 1.5}, "restyle 1.5"),
        ({"patience": -1}, "patience -1"),
        ({"patience": 3, "gain": 2.0}, "gain 2"),
        ({"patience": 3, "schedule": "one-cycle"}, "patience 3 may end a run before its last epoch"),
        ({"patience": 3, "average": 0.9}, "average 0.9"),
        ({"speed": 3}, "unknown training settings: speed"),
    ],
)
def test_impossible_values_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        recipe("paper", **changes)


@pytest.mark.parametrize(
    ("dice", "flat"),
    [
        ([], False),
        ([0.1, 0.2, 0.2], False),
        ([0.1, 0.2, 0.2, 0.2], False),  # 0.2 is a gain over 0.1, within the last three
        ([0.1, 0.2, 0.2, 0.2, 0.2], True),
        ([0.1, 0.2, 0.15, 0.16, 0.204], True),
        ([0.1, 0.2, 0.15, 0.16, 0.206], False),
        ([0.0, 0.0, 0.0, 0.0], True),  # a net that has collapsed
        ([None, None, None, None, None], False),  # nothing is held back
    ],
)
def test_a_run_ends_when_its_last_epochs_gain_nothing(dice, flat):
    assert is_flat(dice, recipe("paper", patience=3, gain=0.005)) is flat
    assert not is_flat(dice, recipe("paper"))


def test_an_unknown_recipe_is_named():
    with pytest.raises(UsageError, match="unknown recipe 'good'"):
        recipe("good")


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
    assert rates("one-cycle", 20 * WARM_STEPS)[2 * WARM_STEPS] == 1


@pytest.mark.parametrize("schedule", ["constant", "warm", "one-cycle"])
def test_one_step_is_enough(schedule):
    assert 0 < rates(schedule, 1)[0] <= 1
