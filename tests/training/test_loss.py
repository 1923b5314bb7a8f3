import pytest
import torch

from streamseg.training.loss import dice_loss, segmentation_loss


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
    assert missed.item() == pytest.approx(1, abs=1e-5)
    half = dice_loss(torch.stack((small, torch.zeros(1, 8, 8))), both, k=1e-6)
    assert half.item() == pytest.approx(0.5, abs=1e-5)


def test_nothing_found_in_an_empty_image_costs_nothing():
    empty = torch.zeros(1, 1, 8, 8)
    assert dice_loss(empty, empty).item() == 0
    assert dice_loss(empty + 0.5, empty).item() > 0.9


def test_the_loss_falls_towards_the_right_answer():
    target = torch.zeros(1, 8, 8)
    target[0, 2:5, 2:5] = 1
    losses = [segmentation_loss((target - 0.5) * sharpness, target).item() for sharpness in (-10, 0, 2, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-3
