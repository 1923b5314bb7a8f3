"""OpenVINO engines: the files that are built, the layers that INT8 quantises, and reproducible builds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from streamseg.backends.openvino.backend import OpenVINOBackend, can_compute_in, load
from streamseg.backends.openvino.graph import build_model
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.manifest import Manifest
from streamseg.export.builders import openvino
from streamseg.export.builders.openvino import build
from streamseg.export.builders.openvino_int8 import activation_ranges, quantise
from streamseg.export.contract import BuildOrder, BuildResult
from streamseg.segmentation.preprocess import to_tensor
from tests.nets.random_nets import folded_weights, noise, run_torch

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
    "mean", [0.279, *(pytest.param(mean, marks=pytest.mark.slow) for mean in (0.0, 0.5, 1.0))]
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


SPEC = InputSpec(32, 64, mean=0.5, std=0.25, threshold=0.5)
pytestmark = pytest.mark.filterwarnings("ignore")  # of nncf's own imports


def checkpoint(net: str = "unet", *, folded: bool = True) -> Checkpoint:
    return Checkpoint(net, folded, False, SPEC, folded_weights(net), "0" * 64)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[OpenVINOBackend, BuildResult]]:
    def make(order: BuildOrder) -> tuple[OpenVINOBackend, BuildResult]:
        folder = tmp_path / "engine"
        folder.mkdir()
        built = build(order, folder)
        files = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        net, precision, batch = order.checkpoint.net, order.precision, order.batch
        manifest = Manifest(
            "e",
            net,
            "openvino",
            precision,
            True,
            False,
            SPEC,
            "0" * 64,
            files,
            batch,
            versions=built.versions,
        )
        return load(folder, manifest, "f" * 64), built

    return make


@pytest.mark.parametrize("net", ["unet", "segnet", "improved_unet", "lite_unet"])
def test_an_fp32_engine_does_what_its_net_does(make: Callable, net: str) -> None:
    engine, built = make(BuildOrder(checkpoint(net), "fp32", batch=2))
    tensor = noise(2, 1, 32, 64)
    np.testing.assert_allclose(engine.infer(tensor), run_torch(net, tensor), atol=3e-5)
    assert (engine.info.batch, engine.info.precision, engine.precision_found()) == (2, "fp32", {"fp32": 1.0})
    assert built.scales == {}
    assert set(built.versions) == {"openvino"}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_halves_the_file_and_reports_its_types(
    make: Callable, tmp_path: Path, precision: str
) -> None:
    lines: list[str] = []
    engine, _ = make(BuildOrder(checkpoint(), precision, say=lines.append))
    parameters = sum(array.size for array in folded_weights("unet").values())
    assert (
        tmp_path / "engine" / "model.bin"
    ).stat().st_size < 2.5 * parameters  # the up-sampled kernels grow
    found = engine.precision_found()
    assert sum(found.values()) == pytest.approx(1)
    if can_compute_in(precision):
        assert found[precision] > 0.8
    else:
        assert found == {"fp32": 1.0}
        assert any("does not compute in" in line for line in lines)
    tensor = noise(1, 1, 32, 64)
    assert np.abs(engine.infer(tensor) - run_torch("unet", tensor)[0]).mean() < 0.02


@pytest.mark.parametrize("net", ["improved_unet", "segnet", "lite_unet"])
def test_int8_engines_say_so_and_frames_of_a_batch_do_not_mix(
    make: Callable, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if net == "segnet":  # which takes long, and was quantised above
        monkeypatch.setattr(openvino, "quantise", lambda *_, **__: quantised(net).clone())
    engine, built = make(BuildOrder(checkpoint(net), "int8", batch=2, images=images()))
    found = engine.precision_found()
    # SegNet's comparisons and lite_unet's depthwise convolutions stay in float.
    assert found["int8"] > (0.9 if net == "improved_unet" else 0.5)
    assert set(found) <= {"int8", "fp32"}
    assert set(built.versions) == {"openvino", "nncf"}
    assert built.scales
    a, b = noise(2, 1, 1, 32, 64)
    both = engine.infer(np.concatenate([a, b]))
    swapped = engine.infer(np.concatenate([b, a]))
    np.testing.assert_allclose(both, swapped[::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("net", "precision"),
    [("unet", "int8"), pytest.param("segnet", "int8", marks=pytest.mark.slow), ("unet", "fp16")],
)
def test_the_same_order_gives_the_same_files(tmp_path: Path, net: str, precision: str) -> None:
    found = []
    for name in "ab":
        (tmp_path / name).mkdir()
        built = build(
            BuildOrder(checkpoint(net), precision, images=images(2), preset="performance"),
            tmp_path / name,
        )
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        found.append((files, built.scales))
    assert found[0] == found[1]
    assert set(found[0][0]) == {"model.xml", "model.bin"}


def test_impossible_orders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="received none"):
        build(BuildOrder(checkpoint(), "int8"), tmp_path)
    with pytest.raises(EngineError, match="folded"):
        build(BuildOrder(checkpoint(folded=False), "fp32"), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "nncf", None)
    with pytest.raises(MissingExtra, match="export"):
        build(BuildOrder(checkpoint(), "int8", images=images()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Check 'x' failed\n  at node y\n")

    monkeypatch.setattr(ov, "save_model", fail)
    with pytest.raises(EngineError, match=r"cannot build unet in fp32: at node y") as caught:
        build(BuildOrder(checkpoint(), "fp32"), tmp_path)
    assert isinstance(caught.value.__cause__, RuntimeError)
