import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops

from streamseg.backends.openvino.segnet import pooling_memory, unpool
from streamseg.nets.segnet import pool_with_memory
from streamseg.nets.segnet import unpool as torch_unpool


def ties(*shape: int, seed: int = 0) -> np.ndarray:
    """Few values, many zeros: most 2x2 blocks have their maximum more than once."""
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)


def run(node: ov.Node, inputs: list[ov.Node], *tensors: np.ndarray) -> np.ndarray:
    model = ov.Model([node], inputs, "layer")
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tensors)[0]


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 16, 8, 6), (1, 64, 12, 16)])
def test_the_first_maximum_is_remembered(shape: tuple[int, ...]) -> None:
    values = ties(*shape)
    x = ops.parameter(list(shape), np.float32)
    _, planes = pool_with_memory(torch.from_numpy(values))
    assert np.array_equal(run(pooling_memory(x), [x], values), planes.numpy().argmax(axis=1))


@pytest.mark.parametrize("runs", [1, 2])
def test_unpooling_is_bit_identical_to_torch(runs: int) -> None:
    values, features = ties(2, 16, 8, 6), np.random.default_rng(1).normal(size=(2, 16 * runs, 4, 3))
    features = features.astype(np.float32)
    _, planes = pool_with_memory(torch.from_numpy(values))
    expected = torch_unpool(torch.from_numpy(features), planes).numpy()
    x, y = (ops.parameter(list(tensor.shape), np.float32) for tensor in (values, features))
    # torch's neighbours share a plane; here runs of channels do
    order = np.arange(16 * runs).reshape(16, runs).T.ravel()
    found = run(unpool(y, pooling_memory(x)), [x, y], values, features[:, order])
    assert np.array_equal(found, expected[:, order])
