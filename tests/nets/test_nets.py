"""One contract for all nets: counts, sizes, gradients; their blocks, and SegNet's memory."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from streamseg.core.errors import UsageError
from streamseg.nets import NETS, build_net, count_parameters, width_of
from streamseg.nets.blocks import ShortcutLayer, merge, up2
from streamseg.nets.segnet import pool_with_memory, unpool
from tests.nets.random_nets import NARROW

PARAMETERS = {"unet": 7_848_129, "segnet": 31_819_649, "improved_unet": 8_301_441, "lite_unet": 4_247_745}


@pytest.mark.parametrize("name", NETS)
def test_parameter_counts_are_those_of_table_3_and_of_lite_unets_design(name):
    assert count_parameters(build_net(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(32, 64), (37, 50)])
def test_logits_have_the_inputs_size(name, size):
    net = build_net(name, width=NARROW).eval()
    with torch.inference_mode():
        assert net(torch.rand(1, 1, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize("name", NETS)
def test_padding_does_not_disturb_what_is_far_from_it(name):
    net = build_net(name, width=NARROW).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        padded = net(image[..., :63, :63])
        whole = net(F.pad(image[..., :63, :63], (0, 1, 0, 1), mode="replicate"))
    assert torch.equal(padded, whole[..., :63, :63])


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_learns(name):
    net = build_net(name, width=NARROW).train()
    net(torch.rand(2, 1, 64, 64)).square().mean().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize(("name", "works"), [("unet", "16x40"), ("segnet", "32x40")])
def test_a_size_that_cannot_work_names_one_that_does(name, works):
    with pytest.raises(ValueError, match=f"the nearest size that works is {works}"):
        build_net(name, width=NARROW)(torch.rand(1, 1, 8, 40))


def test_an_unknown_net_names_the_known_ones():
    with pytest.raises(UsageError, match="unet, segnet, improved_unet, lite_unet"):
        build_net("resnet")


def test_normalisation_is_where_the_paper_counts_it():
    norms = {name: sum(isinstance(m, nn.BatchNorm2d) for m in build_net(name).modules()) for name in NETS}
    assert norms == {"unet": 1, "segnet": 26, "improved_unet": 27, "lite_unet": 56}


@pytest.mark.parametrize("name", NETS)
def test_the_width_is_a_factor_on_all_channels_but_the_ends(name):
    full, narrow = build_net(name).state_dict(), build_net(name, width=NARROW).state_dict()
    assert full.keys() == narrow.keys()
    for key, tensor in full.items():
        sides = [side if side == 1 else side // 8 for side in tensor.shape[:2]]
        assert list(narrow[key].shape) == [*sides, *tensor.shape[2:]], key
    assert (width_of(name, full), width_of(name, narrow), width_of(name, {})) == (1, NARROW, 1)


def test_the_shortcut_factor_is_applied():
    layer = ShortcutLayer(4, b=0.5).eval()
    x = torch.rand(1, 4, 8, 8)
    expected = F.relu(layer.norm(layer.conv(x)) + 0.5 * layer.shortcut_norm(layer.shortcut(x)))
    assert torch.equal(layer(x), expected)
    assert all(m.b == 1.0 for m in build_net("improved_unet").modules() if isinstance(m, ShortcutLayer))
    halved = [m.b for m in build_net("improved_unet", b=0.5).modules() if isinstance(m, ShortcutLayer)]
    assert halved == [0.5] * 9


def test_up_repeats_each_pixel_four_times():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert up2(x)[0, 0].tolist() == expected


def test_merge_puts_what_comes_from_below_first():
    below, beside = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4)
    assert merge(below, beside)[0, :, 0, 0].tolist() == [0, 0, 1]
    with pytest.raises(RuntimeError):
        merge(below, torch.ones(1, 1, 3, 4))


@pytest.mark.parametrize("values", [2, 3, 1000])
def test_segnets_memory_is_bit_identical_to_max_unpool(values):
    generator = torch.Generator().manual_seed(values)
    x = torch.randint(0, values, (2, 6, 12, 10), generator=generator).float()  # few values: many ties
    peak, memory = pool_with_memory(x)
    expected, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(peak, expected)
    features = torch.randn(2, 6, 6, 5, generator=generator)
    assert torch.equal(unpool(features, memory), F.max_unpool2d(features, indices, 2))


def test_each_plane_of_the_memory_serves_two_channels():
    x = torch.rand(1, 3, 4, 4)
    _, indices = F.max_pool2d(x, 2, return_indices=True)
    features = torch.rand(1, 6, 2, 2)
    expected = F.max_unpool2d(features, indices.repeat_interleave(2, dim=1), 2)
    assert torch.equal(unpool(features, pool_with_memory(x)[1]), expected)
