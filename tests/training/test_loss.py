"""Losses and validation."""

import pytest
import torch
from torch.nn import functional as F

from streamseg.evaluation.overlap import Confusion
from streamseg.training.config import recipe
from streamseg.training.devices import make_fabric
from streamseg.training.loss import batch_loss, dice_loss, plane_loss
from streamseg.training.validate import net_input, validation_dice
from tests.training.runs import squares


def test_dice_loss_is_equation_4_with_smoothing():
    p = torch.tensor([[[0.5, 1.0], [0.0, 0.25]]])
    t = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    expected = 1 - (2 * 1.5 + 2) / (1.75 + 2 + 2)
    assert dice_loss(p, t, k=2).item() == pytest.approx(expected)


def test_each_image_counts_alike_whatever_its_nerve_size():
    small, large = torch.zeros(2, 1, 8, 8)
    small[0, 0, 0] = 1
    large[0] = 1
    both = torch.stack((small, large))
    missed = dice_loss(torch.zeros(2, 1, 8, 8), both, k=1e-6)
    assert missed.tolist() == pytest.approx([1, 1], abs=1e-5)
    half = dice_loss(torch.stack((small, torch.zeros(1, 8, 8))), both, k=1e-6)
    assert half.tolist() == pytest.approx([0, 1], abs=1e-5)


def test_nothing_found_in_an_empty_image_costs_nothing():
    empty = torch.zeros(1, 1, 8, 8)
    assert dice_loss(empty, empty).item() == 0
    assert dice_loss(empty + 0.5, empty).item() > 0.9


@pytest.mark.parametrize("kind", ["dice", "dice+bce"])
def test_the_loss_falls_towards_the_right_answer(kind):
    target = torch.zeros(1, 8, 8)
    target[0, 2:5, 2:5] = 1
    losses = [plane_loss(kind, (target - 0.5) * sharpness, target).item() for sharpness in (-10, 0, 2, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-3


def test_cross_entropy_is_added_as_torch_computes_it():
    logits, target = torch.randn(3, 8, 8), (torch.rand(3, 8, 8) > 0.5).float()
    added = plane_loss("dice+bce", logits, target) - plane_loss("dice", logits, target)
    assert added.mean().item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, target).item())


def test_vessels_count_only_where_they_are_known_and_parts_of_a_batch_average_to_it():
    logits, labels = torch.randn(4, 2, 8, 8), (torch.rand(4, 2, 8, 8) > 0.5).float()
    known = torch.tensor([True, False, True, False])

    def loss(rows, weight=0.5):
        return batch_loss("dice+bce", logits[rows], labels[rows], known[rows], vessel_weight=weight)

    nerve = plane_loss("dice+bce", logits[:, 0], labels[:, 0])
    vessel = plane_loss("dice+bce", logits[:, 1], labels[:, 1])
    expected = (nerve.sum() + 0.5 * (vessel[0] + vessel[2])) / 4
    assert loss(slice(None)).item() == pytest.approx(expected.item())
    assert loss(slice(None), 0).item() == pytest.approx(nerve.mean().item())
    halves = (loss(slice(0, 4, 2)) + loss(slice(1, 4, 2))) / 2
    assert halves.item() == pytest.approx(expected.item())


def test_teachers_weigh_beside_the_labels_and_count_where_vessels_are_unknown():
    logits, labels, taught = (
        torch.randn(2, 2, 8, 8),
        (torch.rand(2, 2, 8, 8) > 0.5).float(),
        torch.rand(2, 2, 8, 8),
    )
    known = torch.tensor([True, False])

    def loss(target, known, **options):
        return batch_loss("dice+bce", logits, target, known, vessel_weight=0.5, **options)

    both = 0.3 * loss(labels, known) + 0.7 * loss(taught, torch.ones(2, dtype=torch.bool))
    assert loss(labels, known, taught=taught, soft=0.7).item() == pytest.approx(both.item())
    nerve = loss(labels, known, taught=taught[:, :1], soft=0.7)
    vessel = 0.5 * (known * plane_loss("dice+bce", logits[:, 1], labels[:, 1])).mean()
    soft = (0.3 * plane_loss("dice+bce", logits[:, 0], labels[:, 0])).mean() + (
        0.7 * plane_loss("dice+bce", logits[:, 0], taught[:, 0])
    ).mean()
    assert nerve.item() == pytest.approx((soft + vessel).item())


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
