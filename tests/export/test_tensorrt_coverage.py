"""All operators of all nets convert, one engine each: measured with real TensorRT-RTX, without a GPU."""

from pathlib import Path

import pytest

from benchmarks.tensorrt_coverage.__main__ import NETS, NotHereError, environment, examine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SIZE = (32, 64)
WEIGHTED = {"unet": 19, "improved_unet": 19, "segnet": 27, "lite_unet": 57}
"""Convolutions of the folded nets."""
HALF_BYTES = {"unet": 10 << 20, "improved_unet": 10 << 20, "segnet": 10 << 20, "lite_unet": 8 << 20}
"""A plan of half precision is larger: about two bytes for each weight."""


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return environment()
    except NotHereError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("net", NETS)
def test_half_nets_become_one_plan(python: Path, net: str) -> None:
    found = examine(python, net, "fp16", SIZE)
    assert found["converted"] == found["operators"] > 40
    assert found["engines"] == 1
    for way in ("torch_tensorrt", "onnx"):
        assert found[way]["plan_bytes"] > HALF_BYTES[net], found[way]
    layers = found["torch_tensorrt"]["network_layers"]
    assert layers["HALF"] >= WEIGHTED[net]
    assert ("FLOAT" in layers) == (net == "lite_unet")  # layers without weights: docs/log.md


@pytest.mark.parametrize("net", ["unet", "segnet", "lite_unet"])
def test_quantised_nets_convert_whole(python: Path, net: str) -> None:
    """TensorRT-RTX 1.5 has no INT8 convolutions, so the network is as far as it goes."""
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed")
    found = examine(python, net, "int8", SIZE)
    assert found["converted"] == found["operators"]
    assert found["engines"] == 1
    layers = found["torch_tensorrt"]["network_layers"]
    assert layers["INT8"] == 2 * WEIGHTED[net]  # a weight and an input each
    assert ("FLOAT" in layers) == (net == "lite_unet")
    for way in ("torch_tensorrt", "onnx"):
        assert "plan_bytes" in found[way] or "myelin" in found[way]["refused"].lower(), found[way]
