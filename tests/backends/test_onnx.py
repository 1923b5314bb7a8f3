"""onnxruntime as a back end: parity with torch, what it computes in, and how it fails."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from streamseg.backends.onnx import OnnxBackend, layer_shares, load
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.hardware import THREADS_VARIABLE, thread_count
from streamseg.core.types import Backend, InputSpec
from streamseg.engines.manifest import Manifest
from streamseg.export.builders.onnx import build
from streamseg.export.contract import BuildOrder
from streamseg.nets.inference import inference_net
from tests.nets.random_nets import NARROW, images, needs_modelopt, random_checkpoint

SPEC = InputSpec(32, 64, mean=0.25, std=0.25, threshold=0.5)
slow = pytest.mark.slow


def manifest_of(folder: Path, precision: str = "fp32", *, net: str = "unet", batch: int = 1) -> Manifest:
    files = {"model.onnx": sha256((folder / "model.onnx").read_bytes()).hexdigest()}
    return Manifest("small", net, "onnx", precision, True, False, SPEC, "0" * 64, files, batch=batch)


def small(folder: Path, batch: int = 1) -> Path:
    """An engine that gives the sigmoid of its input."""
    shape = [batch, 1, 32, 64]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("frame", "probability")
    ]
    node = helper.make_node("Sigmoid", ["frame"], ["probability"])
    model = helper.make_model(
        helper.make_graph([node], "small", ports[:1], ports[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.mark.parametrize(
    ("net", "precision", "batch", "tolerance"),
    [
        ("unet", "fp32", 1, 1e-4),
        pytest.param("unet", "fp16", 2, 5e-3, marks=slow),
        pytest.param("segnet", "fp32", 2, 1e-4, marks=slow),
        pytest.param("improved_unet", "fp32", 2, 1e-4, marks=slow),
        pytest.param("improved_unet", "fp16", 1, 5e-3, marks=slow),
        pytest.param("improved_unet", "int8", 1, 0.05, marks=needs_modelopt),
        pytest.param("segnet", "int8", 1, 0.05, marks=[slow, needs_modelopt]),
        ("lite_unet", "fp32", 1, 1e-4),
        pytest.param("lite_unet", "int8", 1, 0.05, marks=needs_modelopt),
    ],
)
def test_it_agrees_with_torch(tmp_path, net, precision, batch, tolerance):
    checkpoint = random_checkpoint(net, width=1 if precision == "fp32" else NARROW)
    build(BuildOrder(checkpoint, precision, batch, images()), tmp_path)
    backend = load(tmp_path, manifest_of(tmp_path, precision, net=net, batch=batch), "f" * 64, threads=2)
    assert isinstance(backend, Backend)
    x = np.random.default_rng(0).normal(size=(batch, 1, 32, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = inference_net(checkpoint)(torch.from_numpy(x)).numpy()
    answer = backend.infer(x)
    assert answer.dtype == np.float32
    assert answer.shape == ((1, 32, 64) if batch == 1 else (batch, 1, 32, 64))
    apart = np.abs(answer - (expected[0] if batch == 1 else expected))
    assert (apart.mean() if precision == "int8" else apart.max()) < tolerance
    found = backend.precision_found()
    assert sum(found.values()) == pytest.approx(1)
    if precision == "int8":
        assert found["int8"] > {"segnet": 0.1, "lite_unet": 0.4}.get(net, 0.6)
    if precision == "fp32":
        assert set(found) <= {"fp32", "other"}


def test_it_says_what_it_is_and_closes(tmp_path):
    manifest = replace(manifest_of(small(tmp_path, 3), batch=3), precision="fp16")
    backend = load(tmp_path, manifest, "f" * 64)
    assert (backend.name, backend.fingerprint, backend.info.precision) == ("small", "f" * 64, "fp16")
    assert (backend.info.batch, backend.info.lanes, backend.info.trained, backend.spec) == (3, 1, False, SPEC)
    assert backend.infer(np.zeros((3, 1, 32, 64), np.float32)) == pytest.approx(0.5)
    with pytest.raises(EngineError, match=r"takes a tensor \(3, 1, 32, 64\), received \(1, 1, 32, 64\)"):
        backend.infer(np.zeros((1, 1, 32, 64), np.float32))
    backend.close()
    backend.close()
    for call in (lambda: backend.infer(np.zeros((3, 1, 32, 64), np.float32)), backend.precision_found):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_throughput_gives_each_frame_a_thread_of_its_own(tmp_path):
    backend = load(small(tmp_path), manifest_of(tmp_path), "f" * 64, threads=3, throughput=True)
    assert backend.info.lanes == 3
    assert backend.infer(np.zeros((1, 1, 32, 64), np.float32)) == pytest.approx(0.5)


def test_a_file_that_is_not_an_engine_is_refused_in_one_line(tmp_path):
    manifest = manifest_of(small(tmp_path))
    data = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(EngineError, match=r"asks for tensor\(float\) \[2, 1, 32, 64\]"):
        OnnxBackend(data, replace(manifest, batch=2).info("f" * 64))
    with pytest.raises(EngineError, match="cannot run engine small") as caught:
        OnnxBackend(b"nonsense", manifest.info("f" * 64))
    assert "\n" not in str(caught.value)
    (tmp_path / "model.onnx").write_bytes(data[:-1] + b"?")
    with pytest.raises(EngineError, match="not the file that the manifest describes"):
        load(tmp_path, manifest, "f" * 64)


def test_threads_are_those_of_the_call_or_the_environment(monkeypatch):
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert thread_count(None) is None
    monkeypatch.setenv(THREADS_VARIABLE, "5")
    assert (thread_count(None), thread_count(2)) == (5, 2)
    for wrong in ("0", "many"):
        monkeypatch.setenv(THREADS_VARIABLE, wrong)
        with pytest.raises(UsageError, match=r"at least 1 thread|number of threads"):
            thread_count(None)


def test_shares_follow_types_through_operators_that_convert():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], [0])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[1]),
        helper.make_node("QLinearConv", ["c"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "scale", "zero"], ["e"]),
        helper.make_node("Cast", ["e"], ["f"], to=TensorProto.FLOAT16),
        helper.make_node("Sigmoid", ["f"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 4])
    graph = helper.make_graph(nodes, "graph", [value], [output], initializer=[scale, zero])
    assert layer_shares(helper.make_model(graph)) == {"fp16": 0.25, "fp32": 0.25, "int8": 0.5}
