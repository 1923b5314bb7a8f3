import numpy as np
import openvino as ov
import pytest

from streamseg.backends.openvino.graph import build_model
from streamseg.core.errors import EngineError
from streamseg.core.types import InputSpec
from tests.nets.random_nets import folded_weights, noise, run_torch

NETS = ("unet", "segnet", "improved_unet")


def spec(height: int, width: int) -> InputSpec:
    return InputSpec(height, width, mean=0.25, std=0.25, threshold=0.5)


def run(model: ov.Model, tensor: np.ndarray) -> np.ndarray:
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tensor)[0]


@pytest.mark.parametrize(("name", "shape"), [*((net, (1, 32, 64)) for net in NETS), ("unet", (1, 48, 16))])
def test_the_model_agrees_with_torch(name: str, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    model = build_model(folded_weights(name, 1), spec(height, width), net=name, batch=batch)
    assert [port.get_any_name() for port in (*model.inputs, *model.outputs)] == ["frame", "probability"]
    tensor = noise(batch, 1, height, width)
    expected = run_torch(name, tensor, width=1)
    assert expected.std() > 1e-3  # a constant answer would prove nothing
    np.testing.assert_allclose(run(model, tensor), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_frames_of_a_batch_do_not_mix(name: str) -> None:
    tensor = noise(3, 1, 32, 32)
    weights = folded_weights(name)
    together = run(build_model(weights, spec(32, 32), net=name, batch=3), tensor)
    single = build_model(weights, spec(32, 32), net=name)
    assert together.shape == (3, 1, 32, 32)
    for index in range(3):
        np.testing.assert_allclose(together[index], run(single, tensor[index : index + 1])[0], atol=1e-5)


@pytest.mark.parametrize(("name", "good"), [("improved_unet", "64x64"), ("segnet", "64x64")])
def test_a_size_that_is_no_multiple_names_one_that_is(name: str, good: str) -> None:
    with pytest.raises(EngineError, match=f"use {good}"):
        build_model(folded_weights(name), spec(50, 60), net=name)


@pytest.mark.parametrize("name", ["improved_unet", "segnet"])
@pytest.mark.parametrize("missing", ["head.bias", "encoder.1.1.conv.weight", "decoder.2.0.conv.weight"])
def test_missing_weights_are_named(name: str, missing: str) -> None:
    weights = dict(folded_weights(name))
    del weights[missing]
    with pytest.raises(EngineError, match=f"lack '{missing}'"):
        build_model(weights, spec(32, 32), net=name)


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
