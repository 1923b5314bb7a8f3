import pytest
import torch
from torch.nn import functional as F

from streamseg.nets import build_net
from streamseg.nets.blocks import ShortcutLayer, merge, up2


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
