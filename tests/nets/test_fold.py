"""Folding is exact, and leaves a plain net."""

import pytest
import torch
from torch import nn

from streamseg.nets import NETS, build_net, fold

SIZES = [(64, 64), (45, 70), (96, 32)]


def scrambled(name: str, **options: float) -> nn.Module:
    """A net in eval mode whose normalisation is far from the identity."""
    torch.manual_seed(7)
    net = build_net(name, width=1 / 8, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETS)
def test_float64_agrees_below_1e_9(name, size):
    net = scrambled(name).double()
    x = torch.randn(1, 1, *size, dtype=torch.float64)
    with torch.inference_mode():
        assert (net(x) - fold(net)(x)).abs().max() < 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["unet", "improved_unet"])
def test_float32_agrees_below_1e_5(name, size):
    net = scrambled(name)
    x = torch.randn(1, 1, *size)
    with torch.inference_mode():
        assert (net(x) - fold(net)(x)).abs().max() < 1e-5


def test_the_shortcuts_factor_is_folded_in():
    net = scrambled("improved_unet", b=-0.7).double()
    x = torch.randn(1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        assert (net(x) - fold(net)(x)).abs().max() < 1e-9


@pytest.mark.parametrize("name", NETS)
def test_no_normalisation_is_left_and_the_original_is_untouched(name):
    net = scrambled(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded = fold(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(p.requires_grad for p in folded.parameters())
    again = fold(folded).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in folded.state_dict().items())


def test_the_improved_net_becomes_a_plain_unet():
    folded = {n: fold(scrambled(n)) for n in ("unet", "improved_unet")}
    shapes = {n: [(k, v.shape) for k, v in net.state_dict().items()] for n, net in folded.items()}
    assert shapes["unet"] == shapes["improved_unet"]
    assert sum(isinstance(m, nn.Conv2d) for m in folded["improved_unet"].modules()) == 19
