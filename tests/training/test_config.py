import pytest

from streamseg.core.errors import UsageError
from streamseg.training.config import OPEN_CHOICES, RECIPES, recipe


def test_the_paper_s_recipe_is_the_paper_s():
    paper = recipe("paper")
    assert (paper.loss, paper.weight_decay, paper.schedule) == ("dice", 0, "constant")
    assert (paper.strength, paper.average, paper.vessel_weight, paper.outputs) == (0, 0, 0, 1)


def test_what_the_paper_leaves_open_names_the_value_taken():
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 100}, "multiples of 16"),
        ({"width": 16}, "at least 32"),
        ({"epochs": 0}, "epochs 0"),
        ({"learning_rate": -1.0}, "learning_rate -1"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"speed": 3}, "no setting of training is called speed"),
    ],
)
def test_impossible_values_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        recipe("paper", **changes)


def test_an_unknown_recipe_is_named():
    with pytest.raises(UsageError, match="no recipe is called 'good'"):
        recipe("good")
