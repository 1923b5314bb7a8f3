"""The builder, with stand-ins for torch-tensorrt and TensorRT."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from streamseg.backends.eager import EagerBackend
from streamseg.backends.tensorrt.backend import PLAN, TensorRTBackend
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.engines.checkpoint import Checkpoint
from streamseg.engines.manifest import Manifest
from streamseg.export.builders import tensorrt, tensorrt_torch
from streamseg.export.builders.tensorrt import build, plan_from_onnx
from streamseg.export.contract import BuildOrder
from tests.backends.fake_tensorrt import SIZE, FakeTensorRT, Front, Parsing, conv
from tests.nets.random_nets import random_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return random_checkpoint("unet", SIZE)


def order(checkpoint: Checkpoint, precision: str = "fp16", **more: Any) -> BuildOrder:
    return BuildOrder(checkpoint, precision, **more)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(
        front: Front | None, trt: FakeTensorRT | None = None, rtx: FakeTensorRT | None = None
    ) -> None:
        for name in ("tensorrt_bindings", "torch_tensorrt"):
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
        if front is not None:
            monkeypatch.setitem(sys.modules, "torch_tensorrt", front)
        monkeypatch.setattr(tensorrt, "find_spec", lambda name: front and front.__spec__)

    return install


def run(folder: Path, checkpoint: Checkpoint, precision: str, batch: int = 1) -> TensorRTBackend:
    manifest = Manifest(
        "e", "unet", "tensorrt", precision, True, False, checkpoint.spec, "0" * 64, {}, batch=batch
    )
    return TensorRTBackend((folder / PLAN).read_bytes(), manifest.info("f" * 64), trt=FakeTensorRT())


@pytest.mark.parametrize(
    ("version", "precision", "tolerance"),
    [("2.11.0", "fp32", 1e-5), ("2.13.0", "fp16", 5e-3), ("2.13.0", "bf16", 3e-2)],
)
def test_a_plan_does_what_the_net_does(
    tmp_path: Path,
    checkpoint: Checkpoint,
    install: Callable[..., None],
    version: str,
    precision: str,
    tolerance: float,
) -> None:
    front = Front(version=version)
    install(front, FakeTensorRT())
    said: list[str] = []
    batch = 2 if precision == "fp16" else 1
    built = build(order(checkpoint, precision, batch=batch, say=said.append), tmp_path, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]
    assert built.versions["torch"] == torch.__version__
    assert built.scales == {}
    assert said == [f"converting by torch-tensorrt {version}"]
    (given,) = front.inputs
    assert given.shape == (batch, 1, *SIZE)
    assert given.dtype == {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    assert front.settings["require_full_compilation"]
    assert front.settings["disable_tf32"] == (precision == "fp32")
    assert not Path(front.settings["timing_cache_path"]).parent.exists()
    x = np.random.default_rng(0).normal(0, 1, (batch, 1, *SIZE)).astype(np.float32)
    reference = EagerBackend(checkpoint, "r")
    wanted = np.stack([reference.infer(one[None]) for one in x])
    engine = run(tmp_path, checkpoint, precision, batch)
    assert engine.infer(x) == pytest.approx(wanted if batch > 1 else wanted[0], abs=tolerance)
    assert engine.precision_found() == {precision: 1.0}


@pytest.fixture
def modelopt() -> None:
    pytest.importorskip("modelopt.torch.quantization", reason="modelopt does not load", exc_type=ImportError)


@pytest.mark.usefixtures("modelopt")
def test_quantised_nets_are_converted_as_such(
    tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]
) -> None:
    front = Front(version="2.13.0", layers=[conv("INT8", "Int8")] * 5 + [conv("HALF")] * 2)
    install(front, FakeTensorRT())
    images = [np.random.default_rng(i).integers(0, 256, SIZE, dtype=np.uint8) for i in range(2)]
    job = order(checkpoint, "int8", images=images, preset="performance")
    built = build(job, tmp_path, device="cpu")
    program = front.settings["program"]
    marks = [n for n in program.graph.nodes if "quantize_op" in str(n.target)]
    assert len(marks) == 2 * len(built.scales) == 2 * 19
    assert all(value > 0 for value in built.scales.values())
    kept = {name: t for name, t in program.state_dict.items() if name.endswith("amax")}
    assert all(t.dtype == torch.float32 and (t.ndim == 0 or t.numel() > 1) for t in kept.values())
    assert {n.meta["val"].dtype for n in marks} == {torch.float16}
    json.dumps(built.scales)


def test_a_plan_in_another_precision_is_refused(
    tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]
) -> None:
    install(Front(layers=[conv("FLOAT")] * 3 + [conv("HALF")]), FakeTensorRT())
    with pytest.raises(EngineError, match=r"unet in fp16 to compute in fp32 75%, fp16 25%"):
        build(order(checkpoint), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_an_engine_without_layer_information_is_reported(
    tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]
) -> None:
    install(Front(layers=["conv1", "conv2"]), FakeTensorRT())
    said: list[str] = []
    build(order(checkpoint, say=said.append), tmp_path, device="cpu")
    assert "does not report" in said[-1]
    assert run(tmp_path, checkpoint, "fp16").precision_found() == {"other": 1.0}


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0"])
def test_a_net_that_cannot_be_converted_is_an_engine_error(
    tmp_path: Path,
    checkpoint: Checkpoint,
    install: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    version: str,
) -> None:
    front = Front(version=version)
    front.fault = AssertionError("no converter for aten::grid_sampler\nand pages more")
    install(front, FakeTensorRT())
    with pytest.raises(
        EngineError, match=rf"{version} cannot convert .*no converter for aten::grid"
    ) as caught:
        build(order(checkpoint), tmp_path, device="cpu")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, UnboundLocalError)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""
    assert logging.getLogger("torch_tensorrt").propagate
    assert not logging.getLogger("torch_tensorrt").handlers


def test_removed_settings_are_not_ignored_silently(
    tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]
) -> None:
    front = Front(version="3.0.0")
    front.dynamo.convert_exported_program_to_serialized_trt_engine = lambda program, arg_inputs, **kwargs: b""
    install(front, FakeTensorRT())
    with pytest.raises(EngineError, match=r"3.0.0 does not know require_full_compilation.*install 2.11"):
        build(order(checkpoint), tmp_path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]) -> None:
    install(Front(), FakeTensorRT())
    with pytest.raises(EngineError, match=r"NVIDIA GPU.*openvino"):
        build(order(checkpoint), tmp_path)


def test_without_tensorrt(tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]) -> None:
    install(None)
    with pytest.raises(MissingExtra, match=r"'torch-tensorrt'.*streamseg\[tensorrt\]"):
        build(order(checkpoint), tmp_path, device="cpu")


def test_without_torch(tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="'torch'"):
        build(order(checkpoint), tmp_path)


@pytest.mark.parametrize(
    ("precision", "flags", "opset"),
    [("fp32", set(), 17), ("fp16", {"TF32"}, 17), ("int8", {"TF32"}, 19)],
)
def test_building_from_onnx(
    tmp_path: Path,
    checkpoint: Checkpoint,
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    flags: set[str],
    opset: int,
    request: pytest.FixtureRequest,
) -> None:
    written: list[dict[str, Any]] = []

    def export_onnx(net: Any, shape: tuple[int, ...], path: Path, **settings: Any) -> None:
        written.append({"shape": shape, **settings})
        path.write_bytes(b"model")

    onnx = pytest.importorskip("streamseg.export.builders.onnx")
    monkeypatch.setattr(onnx, "export_onnx", export_onnx)
    monkeypatch.setattr(tensorrt, "_prove", lambda *_: None)
    trt = Parsing()
    install(None, trt)
    said: list[str] = []
    images = [np.zeros(SIZE, np.uint8)] if precision == "int8" else []
    if precision == "int8":
        request.getfixturevalue("modelopt")
    built = build(order(checkpoint, precision, images=images, say=said.append), tmp_path, device="cpu")
    half = precision in ("fp16", "int8")
    assert written == [{"shape": (1, 1, *SIZE), "opset": opset, "half": half}]
    assert trt.models == [b"model"]
    assert trt.config.flags == flags
    assert trt.config.profiling_verbosity == "detailed"
    assert trt.network_flags == 2
    assert "onnx" in built.versions
    assert "torch-tensorrt" not in built.versions
    assert "torch-tensorrt is not installed" in said[-1]


def test_bf16_is_not_written_as_onnx(
    tmp_path: Path, checkpoint: Checkpoint, install: Callable[..., None]
) -> None:
    install(None, Parsing())
    with pytest.raises(EngineError, match="bf16 needs torch-tensorrt"):
        build(order(checkpoint, "bf16"), tmp_path, device="cpu")


def test_a_torch_tensorrt_that_does_not_load(
    tmp_path: Path,
    checkpoint: Checkpoint,
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(Front(), None, Parsing())

    def broken(name: str) -> Any:
        raise Exception("import error when try to import _TensorRTProxyModule, got error No libnvinfer")

    monkeypatch.setattr(tensorrt, "import_module", broken)
    said: list[str] = []
    build(order(checkpoint, "fp32", say=said.append), tmp_path, device="cpu")
    assert "torch-tensorrt does not load (import error" in said[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("parse", "unsupported operator 0; unsupported operator 1"), ("build", r"Myelin: no kernel\)")],
)
def test_an_onnx_file_that_cannot_be_built_is_an_engine_error(wrong: str, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        plan_from_onnx(Parsing(wrong=wrong), b"model", "fp16")
    assert "\n" not in str(caught.value)


def test_a_tensorrt_before_10_is_refused() -> None:
    trt = Parsing()
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    trt.__version__ = "8.6.1"
    with pytest.raises(EngineError, match=r"TensorRT 8.6.1 is too old; install TensorRT 10"):
        plan_from_onnx(trt, b"model", "fp16")


def test_a_plan_can_be_built_for_another_gpu() -> None:
    trt = Parsing()
    assert plan_from_onnx(trt, b"model", "fp16", capability="SM89")
    assert trt.config.capability == "SM89"
    with pytest.raises(EngineError, match="cannot build"):
        plan_from_onnx(trt, b"model", "fp16", capability="SM1")


def test_plans_hold_their_layers_types(monkeypatch: pytest.MonkeyPatch) -> None:
    class TRTInterpreter:
        def _populate_trt_builder_config(self, strict: bool = False) -> Any:
            return SimpleNamespace(profiling_verbosity="names only", strict=strict)

    name = "torch_tensorrt.dynamo.conversion._TRTInterpreter"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(TRTInterpreter=TRTInterpreter))
    for parent in ("torch_tensorrt", "torch_tensorrt.dynamo", "torch_tensorrt.dynamo.conversion"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    trt = SimpleNamespace(ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"))
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    with tensorrt_torch._detailed():
        config = TRTInterpreter()._populate_trt_builder_config(True)
        assert (config.profiling_verbosity, config.strict) == ("detailed", True)
    assert TRTInterpreter()._populate_trt_builder_config().profiling_verbosity == "names only"


@pytest.mark.usefixtures("modelopt")
def test_quantising_constants_needs_no_compiler_of_cuda() -> None:
    x, amax = torch.linspace(-2, 2, 9), torch.tensor(1.27)
    with tensorrt_torch._plain_quantisation("int8"):
        found = torch.ops.tensorrt.quantize_op(x, amax, 8, 0, False, False)
        halved = torch.ops.tensorrt.quantize_op(x.half(), amax, 8, 0, False, False)
    assert found.tolist() == pytest.approx([-1.28, -1.28, -1.0, -0.5, 0, 0.5, 1.0, 1.27, 1.27])
    assert halved.dtype == torch.float16
