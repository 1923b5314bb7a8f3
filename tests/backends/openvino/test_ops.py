import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from torch.nn import functional as F

from streamseg.backends.openvino.ops import conv_merged, conv_up, spread_kernel
from tests.nets.random_nets import noise


def run(node: ov.Node, inputs: list[ov.Node], *tensors: np.ndarray) -> np.ndarray:
    model = ov.Model([node], inputs, "layer")
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tensors)[0]


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (16, 8, 8), (64, 6, 10)])
def test_up_sampling_and_conv3_are_one_transposed_convolution(shape: tuple[int, int, int]) -> None:
    """In float64, borders and sides of one pixel included."""
    x, kernel = noise(1, *shape).astype(np.float64), noise(4, shape[0], 3, 3, seed=1)
    up = F.interpolate(torch.from_numpy(x), scale_factor=2.0, mode="nearest")
    expected = F.conv2d(up, torch.from_numpy(kernel.astype(np.float64)), padding=1)
    spread = torch.from_numpy(spread_kernel(kernel).astype(np.float64))
    found = F.conv_transpose2d(torch.from_numpy(x), spread, stride=2, padding=1)
    assert relative(found.numpy(), expected.numpy()) < 2e-7  # the kernel's sums are stored in float32


@pytest.mark.parametrize("batch", [1, 2])
def test_the_layer_is_exact_to_rounding(batch: int) -> None:
    x, kernel = noise(batch, 32, 6, 10), noise(16, 32, 3, 3, seed=1)
    below = ops.parameter(list(x.shape), np.float32)
    up = F.interpolate(torch.from_numpy(x), scale_factor=2.0, mode="nearest")
    expected = F.conv2d(up, torch.from_numpy(kernel), padding=1).numpy()
    assert relative(run(conv_up(below, kernel, "up"), [below], x), expected) < 1e-5


def test_a_merge_is_the_convolution_of_the_concatenation() -> None:
    """The up-sampled features come first, as in the net."""
    x, beside = noise(1, 24, 5, 7), noise(1, 8, 10, 14, seed=1)
    weights = {"c.weight": noise(8, 32, 3, 3, seed=2), "c.bias": noise(8, seed=3)}
    below, skip = (ops.parameter(list(tensor.shape), np.float32) for tensor in (x, beside))
    both = torch.cat(
        (F.interpolate(torch.from_numpy(x), scale_factor=2.0, mode="nearest"), torch.from_numpy(beside)),
        dim=1,
    )
    kernel, bias = (torch.from_numpy(weights[f"c.{part}"]) for part in ("weight", "bias"))
    expected = F.relu(F.conv2d(both, kernel, bias, padding=1)).numpy()
    found = run(conv_merged(below, skip, weights, "c"), [below, skip], x, beside)
    assert relative(found, expected) < 1e-5
