"""ONNX files: what is in them, the same bytes each time, and what is refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from streamseg.core.errors import EngineError
from streamseg.export.builders.onnx import build, export_onnx
from streamseg.export.contract import BuildOrder
from streamseg.nets.inference import inference_net
from tests.nets.random_nets import images, needs_modelopt, random_checkpoint

SHAPE = (1, 1, 32, 64)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_the_same_order_gives_the_same_file_without_local_paths(tmp_path, precision):
    files = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        order = BuildOrder(random_checkpoint("improved_unet"), precision, batch=2)
        built = build(order, folder)
        files.append((folder / "model.onnx").read_bytes())
        assert {"torch", "onnx", "onnxruntime"} <= set(built.versions)
        assert not built.scales
    assert files[0] == files[1]
    for path in (Path(__file__).parents[3], Path(onnx.__file__).parents[2], tmp_path, Path.home()):
        assert str(path).encode() not in files[0]
    model = onnx.load_model_from_string(files[0])
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    kinds = {onnx.TensorProto.DataType.Name(weight.data_type) for weight in model.graph.initializer}
    assert kinds - {"INT64"} >= {"FLOAT" if precision == "fp32" else "FLOAT16"}
    for port, name in ((model.graph.input[0], "frame"), (model.graph.output[0], "probability")):
        assert port.name == name
        assert port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert [side.dim_value for side in port.type.tensor_type.shape.dim] == [2, 1, 32, 64]
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes == {
        "net": "improved_unet",
        "checkpoint_sha256": "0" * 64,
        "precision": precision,
        "size": "32x64",
        "batch": "2",
    }


@pytest.mark.slow
def test_segnet_needs_no_operator_of_its_own(tmp_path):
    export_onnx(inference_net(random_checkpoint("segnet")), SHAPE, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert model.opset_import[0].version == 17
    assert operators(model)["Conv"] == 27
    assert {node.domain for node in model.graph.node} == {""}


@needs_modelopt
def test_quantised_nets_hold_pairs_and_their_scales(tmp_path):
    checkpoint = random_checkpoint("unet")
    said: list[str] = []
    built = build(BuildOrder(checkpoint, "int8", images=images(), say=said.append), tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    counts = operators(model)
    # before 17 convolutions and of their weights, and after 9 stages
    assert counts["QuantizeLinear"] == counts["DequantizeLinear"] == 2 * 17 + 9
    assert len(built.scales) == 17
    assert "nvidia-modelopt" in built.versions
    assert any("2 images" in line for line in said)


@pytest.mark.slow
@needs_modelopt
def test_half_precision_around_quantised_layers_needs_a_later_operator_set(tmp_path):
    from streamseg.export.builders.modelopt import quantise

    checkpoint = random_checkpoint("unet")
    net = quantise(inference_net(checkpoint), images(), checkpoint.spec, preset="mixed")
    with pytest.raises(EngineError, match="operator set 17") as caught:
        export_onnx(net, SHAPE, tmp_path / "model.onnx", half=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.onnx").exists()
    export_onnx(net, SHAPE, tmp_path / "model.onnx", half=True, opset=19)
    model = onnx.load(tmp_path / "model.onnx")
    scales = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    kinds = {weight.data_type for weight in model.graph.initializer if weight.name in scales}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert np.prod([side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim]) == 32 * 64


def test_bf16_and_sizes_that_need_padding_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(EngineError, match="build fp16"):
        build(BuildOrder(random_checkpoint("unet"), "bf16"), tmp_path)
    with pytest.raises(EngineError, match="nearest size is 32x48"):
        build(BuildOrder(random_checkpoint("unet", (32, 50)), "fp32"), tmp_path)
    with pytest.raises(EngineError, match="build fp32 or int8"):
        build(BuildOrder(random_checkpoint("segnet"), "fp16"), tmp_path)
    assert not list(tmp_path.iterdir())
