"""Nets as engines run them: loading, sizes, straight graphs, less arithmetic."""

import pytest
import torch

from streamseg.core.errors import EngineError
from streamseg.engines.checkpoint import Checkpoint
from streamseg.nets.inference import inference_net, load_net
from streamseg.nets.merged_upsampling import merge_upsampling
from tests.nets.random_nets import random_checkpoint


@pytest.mark.parametrize("name", ["unet", "improved_unet", "segnet"])
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
    [("unet", (50, 64), "48x64"), ("improved_unet", (40, 30), "48x32"), ("segnet", (48, 16), "64x32")],
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
    [("unet", "transposed"), ("improved_unet", "shuffled")],
)
def test_less_arithmetic_changes_nothing(name, form):
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
