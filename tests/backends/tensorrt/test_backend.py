"""The TensorRT back end, with a stand-in for TensorRT on the processor."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamseg.backends.tensorrt import backend as tensorrt
from streamseg.backends.tensorrt.backend import TensorRTBackend, load
from streamseg.backends.tensorrt.runtime import PLAIN
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import InputSpec
from streamseg.engines.manifest import Manifest, read_manifest
from tests.backends.fake_tensorrt import FakeTensorRT, conv, small_plan

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)
SHAPE = (1, 1, 32, 48)


def manifest(batch: int = 1, **changes: Any) -> Manifest:
    return Manifest(
        **{
            "name": "small-tensorrt-fp16",
            "net": "unet",
            "backend": "tensorrt",
            "precision": "fp16",
            "folded": True,
            "trained": False,
            "spec": SPEC,
            "checkpoint_sha256": "0" * 64,
            "files": {},
            "batch": batch,
            "versions": {"tensorrt": "10.15.1", "torch": "2.11.0"},
        }
        | changes
    )


def loaded(trt: FakeTensorRT | None = None, *, batch: int = 1, plan: bytes | None = None) -> TensorRTBackend:
    plan = plan or small_plan((batch, 1, 32, 48))
    return TensorRTBackend(plan, manifest(batch).info("f" * 64), trt=trt or FakeTensorRT())


def tensors(batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (batch, 1, 32, 48)).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    found = 1 / (1 + np.exp(-2 * x.astype(np.float64)))
    return found[0] if len(x) == 1 else found


@pytest.mark.parametrize(("kind", "tolerance"), [("FLOAT", 1e-6), ("HALF", 2e-3), ("BF16", 2e-2)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_plan_gives_probabilities(kind: str, tolerance: float, batch: int) -> None:
    backend = loaded(batch=batch, plan=small_plan((batch, 1, 32, 48), kind))
    for seed in range(3):
        x = tensors(batch, seed)
        found = backend.infer(x)
        assert found.dtype == np.float32
        assert found == pytest.approx(expected(x), abs=tolerance)


def test_results_are_the_callers_own() -> None:
    backend = loaded()
    first = backend.infer(tensors(seed=1))
    kept = first.copy()
    backend.infer(tensors(seed=2))
    assert np.array_equal(first, kept)


def test_attributes_and_closing() -> None:
    backend = loaded(batch=3)
    assert (backend.name, backend.fingerprint, backend.spec) == ("small-tensorrt-fp16", "f" * 64, SPEC)
    assert (backend.info.precision, backend.info.trained, backend.info.batch) == ("fp16", False, 3)
    backend.close()
    backend.close()
    with pytest.raises(EngineError, match="is closed"):
        backend.infer(tensors(3))


def test_masks_of_whole_frames() -> None:
    backend = loaded()
    frame = np.random.default_rng(3).integers(0, 256, (64, 96), dtype=np.uint8)
    mask = backend.mask(frame)
    assert mask.shape == (32, 48)
    assert mask.dtype == np.bool_
    assert 0 < mask.mean() < 1
    image = np.full((32, 48), 255, np.uint8)
    assert backend.infer_grey(image) == pytest.approx(expected(np.full(SHAPE, 3.0)), abs=2e-3)


def test_an_input_of_another_shape_is_refused() -> None:
    backend = loaded()
    for wrong in (tensors(2), tensors()[..., 1:], tensors().astype(np.float64)):
        with pytest.raises(EngineError, match="takes a tensor"):
            backend.infer(wrong)


def test_the_plan_checks_its_input() -> None:
    plan = tensorrt.Plan(FakeTensorRT(), small_plan(SHAPE), name="p", shape=SHAPE, device="cpu")
    for wrong in (torch.zeros(SHAPE), torch.zeros((1, 1, 48, 32), dtype=torch.float16)):
        with pytest.raises(EngineError, match="takes HALF"):
            plan(wrong)
    strided = torch.zeros((1, 32, 48, 2), dtype=torch.float16)[..., 0][:, None]
    strided[:] = torch.arange(48)
    assert torch.equal(plan(strided), torch.sigmoid(2 * strided.contiguous()))


def ports(*changed: list[Any]) -> dict[str, Any]:
    return {"ports": list(changed)}


X, Y = ["x", "INPUT", "HALF", [1, 1, 32, 48]], ["y", "OUTPUT", "HALF", [1, 1, 32, 48]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "10.13.0"}, r"TensorRT 10.15.1 cannot load .*Serialization assertion failed.*export it"),
        (ports(["x", "INPUT", "HALF", [2, 1, 32, 48]], Y), r"has the input HALF \(2, 1, 32, 48\)"),
        (ports(X, ["y", "OUTPUT", "HALF", [1, 2, 32, 48]]), r"has the output HALF \(1, 2, 32, 48\)"),
        (ports(["x", "INPUT", "INT32", [1, 1, 32, 48]], Y), "has the input INT32"),
        (ports(["x", "INPUT", "HALF", [1, 1, -1, 48]], Y), "has the input HALF"),
        (ports(X, Y, ["z", "OUTPUT", "HALF", [1]]), "1 inputs and 2 outputs"),
        (ports(Y), "0 inputs and 1 outputs"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        loaded(plan=small_plan(SHAPE, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no_runtime", "factory function returned nullptr"),
        ("no_memory", "too little free GPU memory"),
        ("refuses_buffers", "refuses a buffer for 'y'"),
    ],
)
def test_errors_of_the_gpu_are_one_line(fault: str, message: str) -> None:
    trt = FakeTensorRT()
    setattr(trt, fault, True)
    with pytest.raises(EngineError, match=message):
        loaded(trt)


def test_a_failed_run_is_an_engine_error() -> None:
    trt = FakeTensorRT()
    backend = loaded(trt)
    trt.fails_at_run = True
    with pytest.raises(EngineError, match="failed on the GPU"):
        backend.infer(tensors())


def write(folder: Path, plan: bytes, **changes: Any) -> tuple[Manifest, str]:
    folder.mkdir()
    (folder / "model.plan").write_bytes(plan)
    manifest(files={"model.plan": sha256(plan).hexdigest()}, **changes).write(folder)
    return read_manifest(folder)


def test_loading_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about, fingerprint = write(tmp_path / "e", small_plan(SHAPE))
    asked: list[str] = []

    def found(kind: str) -> FakeTensorRT:
        asked.append(kind)
        return FakeTensorRT()

    monkeypatch.setattr(tensorrt, "find_tensorrt", found)
    monkeypatch.setattr(tensorrt, "DEVICE", "cpu")
    backend = load(tmp_path / "e", about, fingerprint, threads=2, throughput=True)
    assert backend.fingerprint == fingerprint
    assert backend.infer(tensors()) == pytest.approx(expected(tensors()), abs=2e-3)
    assert asked == [PLAIN]


def test_damage_is_seen_before_anything_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about, fingerprint = write(tmp_path / "e", small_plan(SHAPE))
    path = tmp_path / "e" / "model.plan"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(tensorrt, "find_tensorrt", lambda kind: pytest.fail("looked for TensorRT first"))
    with pytest.raises(EngineError, match="is not the file that the manifest describes"):
        load(tmp_path / "e", about, fingerprint)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "find_tensorrt", lambda kind: FakeTensorRT())
    with pytest.raises(EngineError, match="NVIDIA GPU"):
        load(tmp_path / "e", *write(tmp_path / "e", small_plan(SHAPE)))


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"'torch'.*tensorrt"):
        load(tmp_path / "e", *write(tmp_path / "e", b"plan"))


def test_precision_is_read_from_the_engine_not_from_the_request() -> None:
    plan = small_plan(SHAPE, layers=[conv("FLOAT")] * 3 + [conv("HALF")])
    backend = loaded(plan=plan)
    assert backend.info.precision == "fp16"
    assert backend.precision_found() == {"fp32": 0.75, "fp16": 0.25}


def test_importing_the_back_end_loads_neither_torch_nor_tensorrt() -> None:
    code = (
        "import sys, streamseg.backends.tensorrt.backend;"
        "print({'torch', 'tensorrt', 'tensorrt_rtx', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
