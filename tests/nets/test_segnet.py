"""SegNet's memory against torch's own pooling indices."""

import pytest
import torch
from torch.nn import functional as F

from streamseg.nets.segnet import pool_with_memory, unpool


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
