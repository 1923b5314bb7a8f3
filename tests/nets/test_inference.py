"""Nets as engines run them: folded, loaded, straight graphs, less arithmetic."""

import pytest
import torch
from torch import nn

from streamseg.core.errors import EngineError
from streamseg.engines.checkpoint import Checkpoint
from streamseg.nets import NETS, build_net, fold
from streamseg.nets.inference import inference_net, load_net
from streamseg.nets.merged_upsampling import merge_upsampling
from tests.nets.random_nets import random_checkpoint

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


@pytest.mark.parametrize("name", NETS)
def test_it_gives_the_sigmoid_of_the_nets_logits_without_branches_on_the_size(name):
    checkpoint = random_checkpoint(name)
    net = inference_net(checkpoint)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    x = torch.randn(2, 1, 32, 64)
    expected = torch.sigmoid(load_net(checkpoint)(x))
    assert net(x).dtype == torch.float32
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)
    exported = torch.export.export(net, (x,))
    assert not exported.range_constraints
    torch.testing.assert_close(exported.module()(x), expected, rtol=0, atol=1e-6)


def test_an_unfolded_checkpoint_is_folded():
    checkpoint = random_checkpoint("improved_unet", folded=False)
    net, plain = inference_net(checkpoint), load_net(checkpoint, folding=False)
    x = torch.randn(1, 1, 32, 64)
    assert sum(1 for _ in net.modules()) < sum(1 for _ in plain.modules())
    torch.testing.assert_close(net(x), torch.sigmoid(plain(x)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("net", "size", "good"),
    [
        ("unet", (50, 64), "48x64"),
        ("improved_unet", (40, 30), "48x32"),
        ("segnet", (48, 16), "64x32"),
        ("lite_unet", (48, 16), "64x32"),
    ],
)
def test_a_size_that_would_need_padding_names_the_nearest_that_does_not(net, size, good):
    with pytest.raises(EngineError, match=f"nearest size is {good}"):
        inference_net(random_checkpoint(net, size))


def test_weights_of_another_net_are_refused_in_one_line():
    other = random_checkpoint("segnet")
    with pytest.raises(EngineError, match="do not fit the net 'segnet'") as caught:
        load_net(Checkpoint("segnet", True, False, other.spec, random_checkpoint("unet").weights, "0" * 64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "form"),
    [("unet", "transposed"), ("improved_unet", "shuffled"), ("lite_unet", "transposed")],
)
def test_merged_upsampling_changes_nothing(name, form):
    net = load_net(random_checkpoint(name))
    light = merge_upsampling(net, form)
    x = torch.randn(2, 1, 32, 64)
    torch.testing.assert_close(light(x), net(x), rtol=0, atol=1e-4)
    wide = net.double()
    torch.testing.assert_close(merge_upsampling(wide, form)(x.double()), wide(x.double()), rtol=0, atol=1e-9)
    assert float(wide(x.double()).std()) > 0.3


def test_segnet_has_nothing_to_spare():
    net = load_net(random_checkpoint("segnet"))
    x = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(merge_upsampling(net)(x), net(x), rtol=0, atol=0)
