"""The real runtimes at a small size: they all give what torch gives."""

import sys
from pathlib import Path

import numpy as np
import pytest

from streamseg.benchmark.peers.material import OURS_FP32, OURS_INT8, Material
from streamseg.benchmark.peers.peer import Peer, prepare
from streamseg.benchmark.peers.runtimes import runtimes
from streamseg.export.recipe import gather, phantom_recipe
from streamseg.export.source import resolve
from streamseg.segmentation.preprocess import to_tensor

for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

SIZE = (96, 112)
Found = tuple[dict[str, Peer], dict[str, str]]


def made(
    folder: Path,
    *,
    quick: bool = True,
    calibrated: bool = True,
    only: tuple[str, ...] = (),
    onnx: Path | None = None,
) -> Found:
    checkpoint = resolve("improved_unet", SIZE)
    images = gather(phantom_recipe("test", calibration=4, validation=0), None).calibration
    tensors = [to_tensor(image, checkpoint.spec) for image in images]
    material = Material(checkpoint, tensors[:2], 1, folder, tensors if calibrated else ())
    if onnx is not None:
        material.__dict__["onnx"] = onnx  # written before
    makers = runtimes(material, quick=quick)
    absent: dict[str, str] = {}
    chosen = {name: make for name, make in makers.items() if not only or name in only}
    peers = prepare("runtime", chosen, absent, lambda _: None)
    return {peer.name: peer for peer in peers}, absent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtimes")


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return made(folder)


@pytest.fixture
def onnx(found: Found, folder: Path) -> Path:
    """The file that they were read from."""
    return folder / "model.onnx"


def test_every_runtime_is_there_or_says_why(found: Found) -> None:
    peers, absent = found
    assert set(absent) == {f"runtime {OURS_INT8}", "runtime torch.compile"}
    assert "192x224" in absent[f"runtime {OURS_INT8}"]
    assert "--quick" in absent["runtime torch.compile"]
    assert list(peers) == [
        OURS_FP32,
        "torch eager",
        "torch eager, channels last",
        "ONNX Runtime",
        "ONNX Runtime, INT8",
        "OpenCV DNN",
        "OpenCV DNN, classic",
        "OpenVINO by itself",
    ]


def test_they_compute_the_same(found: Found) -> None:
    for name, peer in found[0].items():
        int8 = name == "ONNX Runtime, INT8"
        assert peer.call() == 1
        assert (peer.precision == "int8") == int8
        assert peer.facts["difference"] < (0.5 if int8 else 1e-4), name
        assert peer.facts["mask_dice"] > (0.85 if int8 else 0.999), name
        assert peer.facts["gflop"] == pytest.approx(4.565, abs=0.01)
        assert peer.version
        assert peer.remark
        assert peer.against == (OURS_INT8 if int8 else OURS_FP32)
        assert peer.ours == (name == OURS_FP32)


def test_the_int8_peer_really_is_one(found: Found) -> None:
    assert found[0]["ONNX Runtime, INT8"].facts["difference"] > 1e-3


def test_opencvs_threads_are_set_for_its_own_net_only(found: Found) -> None:
    import cv2

    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        found[0]["OpenCV DNN"].call()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_a_missing_package_takes_only_its_own_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    names = ("ONNX Runtime", "ONNX Runtime, INT8", OURS_FP32)
    peers, absent = made(tmp_path, only=names)
    assert list(peers) == [OURS_FP32]
    assert set(absent) == {"runtime ONNX Runtime", "runtime ONNX Runtime, INT8"}
    assert all("pip install 'streamseg[bench]'" in reason for reason in absent.values())


def test_int8_without_frames_to_calibrate_on(tmp_path: Path, onnx: Path) -> None:
    _, absent = made(tmp_path, calibrated=False, only=("ONNX Runtime, INT8",), onnx=onnx)
    assert absent == {"runtime ONNX Runtime, INT8": "no frames were given to calibrate it on"}


def test_a_runtime_that_lies_is_absent(tmp_path: Path, onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV's answers are spoilt: it must not appear among the fast ones."""
    import cv2

    class Liar:
        def setInput(self, tensor: np.ndarray) -> None:  # noqa: N802
            self.shape = tensor.shape

        def forward(self) -> np.ndarray:
            return np.zeros(self.shape, np.float32)

    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda *_: Liar())
    peers, absent = made(tmp_path, only=(OURS_FP32, "OpenCV DNN"), onnx=onnx)
    assert list(peers) == [OURS_FP32]
    assert "computes something else" in absent["runtime OpenCV DNN"]


@pytest.mark.slow
def test_torch_compiles(tmp_path: Path) -> None:
    peers, absent = made(tmp_path, quick=False, only=("torch.compile",))
    assert absent == {}
    assert peers["torch.compile"].facts["difference"] < 1e-4
    assert peers["torch.compile"].call() == 1
