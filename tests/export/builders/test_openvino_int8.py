import json
from dataclasses import replace
from functools import cache

import numpy as np
import openvino as ov
import pytest

from streamseg.backends.openvino.graph import build_model
from streamseg.core.errors import EngineError
from streamseg.core.types import InputSpec
from streamseg.export.builders.openvino_int8 import activation_ranges, quantise
from streamseg.segmentation.preprocess import to_tensor
from tests.nets.random_nets import folded_weights

SPEC = InputSpec(32, 64, mean=0.5, std=0.25, threshold=0.5)
pytestmark = pytest.mark.filterwarnings("ignore")  # of nncf's own imports


def images(count: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 128), dtype=np.uint8) for _ in range(count)]


@cache
def quantised(name: str) -> ov.Model:
    """Shared between tests: do not change it."""
    return quantise(build_model(folded_weights(name), SPEC, net=name), images(), SPEC, preset="mixed")


def run(model: ov.Model, tensor: np.ndarray) -> np.ndarray:
    return ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tensor)[0]


@pytest.mark.parametrize(("name", "convolutions"), [("unet", 23), ("segnet", 27)])
def test_every_convolution_is_quantised_and_answers_stay_close(name: str, convolutions: int) -> None:
    model = quantised(name)
    stored = [
        node.get_output_element_type(0) for node in model.get_ops() if node.get_type_name() == "Constant"
    ]
    assert stored.count(ov.Type.i8) == convolutions
    tensor = to_tensor(images()[0], SPEC)
    exact = run(build_model(folded_weights(name), SPEC, net=name), tensor)
    assert 0 < np.abs(run(model, tensor) - exact).mean() < 0.1


def test_ranges_are_given_by_layer() -> None:
    ranges = activation_ranges(quantised("unet"))
    assert json.loads(json.dumps(ranges)) == ranges
    assert all(one["low"] < one["high"] and one["levels"] == 256 for one in ranges.values())
    assert ranges["frame/fq_output_0"]["high"] == pytest.approx((1 - SPEC.mean) / SPEC.std, abs=0.01)
    relus = {name.partition("/")[0] for name in ranges if "relu" in name}
    assert relus == {f"{part}.{layer}.conv.relu" for part in stages() for layer in (0, 1)}


def stages() -> list[str]:
    return [*(f"{part}.{level}" for part in ("encoder", "decoder") for level in range(4)), "bottom"]


def test_segnet_compares_what_it_pools() -> None:
    """Were the maximum rounded and the pixels not, none would equal it, and the memory would be wrong."""
    sources: dict[str, list[str]] = {"MaxPool": [], "Slice": []}
    for node in quantised("segnet").get_ordered_ops():
        if node.get_type_name() in sources:
            source = node.input(0).get_source_output().get_node().get_friendly_name()
            sources[node.get_type_name()].append(source)
    assert sorted(sources["MaxPool"] * 4) == sorted(sources["Slice"])
    assert (
        sum("/fq_" in source for source in sources["MaxPool"]) == 4
    )  # the last one's answer is rounded later


def test_weights_use_8_bits_in_every_layer() -> None:
    largest = [
        int(np.abs(node.data.astype(np.int32)).max())
        for node in quantised("unet").get_ordered_ops()
        if node.get_type_name() == "Constant" and node.get_output_element_type(0) == ov.Type.i8
    ]
    assert set(largest) <= {127, 128}


@pytest.mark.parametrize(
    "mean", [pytest.param(0.0, marks=pytest.mark.slow), 0.279, pytest.param(0.5, marks=pytest.mark.slow), 1.0]
)
def test_grey_levels_stay_apart(mean: float) -> None:
    """Each grey level of a image is rounded to one of its own, less than half a step away."""
    spec = replace(SPEC, mean=mean)
    model = build_model(folded_weights("unet"), spec)
    model = quantise(model, [image // 2 for image in images()], spec, preset="mixed")
    entry = activation_ranges(model)["frame/fq_output_0"]
    levels = np.linspace(entry["low"], entry["high"], entry["levels"])
    assert np.abs(levels).min() < 1e-6
    greys = (np.arange(256) / 255 - mean) / spec.std
    assert np.abs(greys - levels).max() <= 0.5 / 255 / spec.std + 1e-6


def test_without_images_nothing_can_be_measured() -> None:
    with pytest.raises(EngineError, match="received none"):
        quantise(build_model(folded_weights("unet"), SPEC), [], SPEC, preset="mixed")
