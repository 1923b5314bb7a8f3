import pytest
import torch

from streamseg.evaluation.overlap import Confusion
from streamseg.training.config import recipe
from streamseg.training.devices import make_fabric
from streamseg.training.validate import net_input, validation_dice
from tests.training.runs import squares


class Bright(torch.nn.Module):
    """Calls a pixel nerve from a grey level on."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, x):
        return (x * 0.25 + 0.25 - self.level) * 50


@pytest.mark.parametrize("level", [0.3, 0.7, 2.0])
def test_it_is_the_mean_dice_of_the_rows_asked_for(level):
    data, config = squares(20), recipe("paper", height=32, width=48)
    rows = (1, 3, *range(4, 20))
    expected = [
        Confusion.count(data.images[r, 0].numpy() / 255 >= level, data.labels[r, 0].numpy() > 0).dice
        for r in rows
    ]
    found = validation_dice(Bright(level), data, rows, config, make_fabric("cpu"))
    assert found == pytest.approx(sum(expected) / len(rows), abs=1e-6)


def test_nothing_found_where_nothing_is_counts_1():
    data, config = squares(3), recipe("paper", height=32, width=48)
    data.labels[:] = 0
    assert validation_dice(Bright(2.0), data, (0, 1, 2), config, make_fabric("cpu")) == 1


def test_images_are_scaled_as_at_inference():
    spec = recipe("paper").spec
    assert net_input(torch.full((1, 1, 2, 2), 0.5), spec)[0, 0, 0, 0] == (0.5 - spec.mean) / spec.std
