"""OpenVINO's graphs of the folded nets against torch, and the layers that they are made of."""

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from torch.nn import functional as F

from streamseg.backends.openvino.graph import build_model
from streamseg.backends.openvino.ops import conv_merged, conv_up, spread_kernel
from streamseg.backends.openvino.segnet import pooling_memory, unpool
from streamseg.core.errors import EngineError
from streamseg.core.types import InputSpec
from streamseg.nets.segnet import pool_with_memory
from streamseg.nets.segnet import unpool as torch_unpool
from tests.nets.random_nets import folded_weights, noise, run_torch

NETS = ("unet", "segnet", "improved_unet", "lite_unet")


def spec(height: int, width: int) -> InputSpec:
    return InputSpec(height, width, mean=0.25, std=0.25, threshold=0.5)


def run(model: ov.Model, *tensors: np.ndarray) -> np.ndarray:
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tensors)[0]


@pytest.mark.parametrize(("name", "shape"), [*((net, (1, 32, 64)) for net in NETS), ("unet", (1, 48, 16))])
def test_the_model_agrees_with_torch(name: str, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    model = build_model(folded_weights(name, 1), spec(height, width), net=name, batch=batch)
    assert [port.get_any_name() for port in (*model.inputs, *model.outputs)] == ["frame", "probability"]
    tensor = noise(batch, 1, height, width)
    expected = run_torch(name, tensor, width=1)
    assert expected.std() > 1e-3  # a constant answer would prove nothing
    np.testing.assert_allclose(run(model, tensor), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", NETS)
def test_frames_of_a_batch_do_not_mix(name: str) -> None:
    tensor = noise(3, 1, 32, 32)
    weights = folded_weights(name)
    together = run(build_model(weights, spec(32, 32), net=name, batch=3), tensor)
    single = build_model(weights, spec(32, 32), net=name)
    assert together.shape == (3, 1, 32, 32)
    for index in range(3):
        np.testing.assert_allclose(together[index], run(single, tensor[index : index + 1])[0], atol=1e-5)


@pytest.mark.parametrize(("name", "good"), [("improved_unet", "64x64"), ("lite_unet", "64x64")])
def test_a_size_that_is_not_a_multiple_names_one_that_is(name: str, good: str) -> None:
    with pytest.raises(EngineError, match=f"use {good}"):
        build_model(folded_weights(name), spec(50, 60), net=name)


@pytest.mark.parametrize("name", ["improved_unet", "segnet"])
@pytest.mark.parametrize("missing", ["head.bias", "encoder.1.1.conv.weight", "decoder.2.0.conv.weight"])
def test_missing_weights_are_named(name: str, missing: str) -> None:
    weights = dict(folded_weights(name))
    del weights[missing]
    with pytest.raises(EngineError, match=f"lack '{missing}'"):
        build_model(weights, spec(32, 32), net=name)


@pytest.mark.parametrize("missing", ["stem.conv.bias", "encoder.3.1.layers.1.conv.weight", "head.weight"])
def test_missing_weights_of_lite_unet_are_named(missing: str) -> None:
    weights = dict(folded_weights("lite_unet"))
    del weights[missing]
    with pytest.raises(EngineError, match=f"lite_unet lack '{missing}'"):
        build_model(weights, spec(32, 32), net="lite_unet")


@pytest.mark.parametrize(("name", "title"), [("improved_unet", "U-Net"), ("segnet", "SegNet")])
@pytest.mark.parametrize(
    ("changed", "cut"),
    [
        ("decoder.0.0.conv.weight", np.s_[:, :-5]),
        ("decoder.0.0.conv.weight", np.s_[:, :, :2]),
        ("encoder.1.1.conv.bias", np.s_[:7]),
        ("encoder.0.0.conv.weight", np.s_[0]),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(name: str, title: str, changed: str, cut) -> None:
    weights = dict(folded_weights(name))
    weights[changed] = weights[changed][cut]
    with pytest.raises(EngineError, match=f"do not form a folded {title}") as caught:
        build_model(weights, spec(32, 32), net=name)
    assert "\n" not in str(caught.value)


def test_weights_of_another_net_are_refused() -> None:
    with pytest.raises(EngineError, match="folded SegNet lack"):
        build_model(folded_weights("unet"), spec(32, 32), net="segnet")
    with pytest.raises(EngineError, match="received 'resnet'"):
        build_model(folded_weights("unet"), spec(32, 32), net="resnet")


def run_layer(node: ov.Node, inputs: list[ov.Node], *tensors: np.ndarray) -> np.ndarray:
    return run(ov.Model([node], inputs, "layer"), *tensors)


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
    assert relative(run_layer(conv_up(below, kernel, "up"), [below], x), expected) < 1e-5


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
    found = run_layer(conv_merged(below, skip, weights, "c"), [below, skip], x, beside)
    assert relative(found, expected) < 1e-5


def ties(*shape: int, seed: int = 0) -> np.ndarray:
    """Few values, many zeros: most 2x2 blocks have their maximum more than once."""
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 16, 8, 6), (1, 64, 12, 16)])
def test_the_first_maximum_is_remembered(shape: tuple[int, ...]) -> None:
    values = ties(*shape)
    x = ops.parameter(list(shape), np.float32)
    _, planes = pool_with_memory(torch.from_numpy(values))
    assert np.array_equal(run_layer(pooling_memory(x), [x], values), planes.numpy().argmax(axis=1))


@pytest.mark.parametrize("runs", [1, 2])
def test_unpooling_is_bit_identical_to_torch(runs: int) -> None:
    values, features = ties(2, 16, 8, 6), np.random.default_rng(1).normal(size=(2, 16 * runs, 4, 3))
    features = features.astype(np.float32)
    _, planes = pool_with_memory(torch.from_numpy(values))
    expected = torch_unpool(torch.from_numpy(features), planes).numpy()
    x, y = (ops.parameter(list(tensor.shape), np.float32) for tensor in (values, features))
    # torch's neighbours share a plane; here runs of channels do
    order = np.arange(16 * runs).reshape(16, runs).T.ravel()
    found = run_layer(unpool(y, pooling_memory(x)), [x, y], values, features[:, order])
    assert np.array_equal(found, expected[:, order])
