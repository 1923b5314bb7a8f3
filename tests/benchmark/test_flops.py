import pytest
import torch
from torch import nn

from streamseg.benchmark.flops import Work, work_of, work_of_module
from streamseg.core.errors import UsageError

GIGA = {
    ("unet", (192, 256), True): 20.9,
    ("segnet", (192, 256), True): 79.8,
    ("improved_unet", (192, 256), True): 20.9,
    ("improved_unet", (192, 256), False): 21.8,
    ("unet", (416, 576), True): 102,
    ("segnet", (416, 576), True): 389,
    ("improved_unet", (416, 576), True): 102,
    ("improved_unet", (416, 576), False): 106,
    ("lite_unet", (256, 256), True): 3.8,
}


@pytest.mark.parametrize(("net", "size", "folded"), GIGA)
def test_arithmetic_of_the_papers_nets_and_lite_unet(net: str, size: tuple[int, int], folded: bool) -> None:
    expected = GIGA[net, size, folded]
    assert work_of(net, *size, folded=folded).flop / 1e9 == pytest.approx(
        expected, abs=0.5 if expected > 100 else 0.05
    )


def test_the_improved_net_folds_to_the_work_of_a_unet() -> None:
    assert work_of("improved_unet", 64, 64) == work_of("unet", 64, 64)


def test_a_batch_multiplies_all_but_the_weights() -> None:
    one, eight = work_of("segnet", 64, 64), work_of("segnet", 64, 64, batch=8)
    assert eight == Work(8 * one.flop, one.parameters)


def test_a_convolution_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 1, bias=False))
    work = work_of_module(net, torch.zeros(1, 3, 4, 6))
    assert work.flop == 2 * (5 * 24 * 27 + 2 * 24 * 5)
    assert work.parameters == 5 * 27 + 5 + 10


def test_a_transposed_convolution_by_hand() -> None:
    work = work_of_module(nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2), torch.zeros(1, 6, 5, 3))
    assert work.flop == 2 * 15 * 6 * 4 * 2  # each of 15 x 6 numbers, times 2x2 taps to 2 of the 4 channels
    assert work.parameters == 6 * 2 * 4 + 4


def test_nets_that_cannot_be_counted_say_why() -> None:
    with pytest.raises(UsageError, match="no net is called"):
        work_of("resnet", 64, 64)
    with pytest.raises(ValueError, match="too small"):
        work_of("unet", 8, 8)
