"""A folded net can be trained on: unfolded it gives the same, and its normalisation fits the images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from streamseg.nets import NETS, build_net, fold, unfold
from tests.nets.random_nets import NARROW, noise, random_net


@pytest.mark.parametrize("name", NETS)
def test_an_unfolded_net_gives_what_the_folded_one_gives(name: str) -> None:
    folded = fold(random_net(name))
    images = torch.from_numpy(noise(4, 1, 64, 64))
    torch.manual_seed(3)
    net = unfold(folded, build_net(name, outputs=2, width=NARROW), [images[:2], images[2:]])
    with torch.no_grad():
        torch.testing.assert_close(net(images)[:, :1], folded(images), rtol=1e-3, atol=1e-3)
        # Training normalises with what was measured: it begins near the folded net.
        trained = net.train()(images)[:, :1]
    assert float((trained - folded(images)).abs().mean()) < 0.15


def test_an_unfolded_net_trains() -> None:
    """Its shortcuts begin without effect and get gradients."""
    images = torch.from_numpy(noise(2, 1, 32, 32))
    folded = fold(random_net("improved_unet"))
    net = unfold(folded, build_net("improved_unet", width=NARROW), [images]).train()
    net(images).mean().backward()
    gains = [
        module.shortcut_norm.weight
        for module in net.modules()
        if isinstance(getattr(module, "shortcut_norm", None), nn.BatchNorm2d)
    ]
    assert gains
    assert all(bool((gain == 0).all()) and gain.grad is not None and bool(gain.grad.any()) for gain in gains)
