"""The real runtimes at a small size: they all give what torch gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.backends.openvino.backend import can_compute_in
from streamseg.benchmark.peers import runtimes as module
from streamseg.benchmark.peers.peer import EXACT, Infer, Peer, agreement, prepare
from streamseg.benchmark.peers.runtimes import (
    OURS_BF16,
    OURS_FP32,
    OURS_INT8,
    PLAIN,
    Loaded,
    RuntimeContext,
    runtime_peer,
    runtimes,
)
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.export.recipe import gather, phantom_recipe
from streamseg.export.source import resolve
from streamseg.segmentation.preprocess import to_tensor
from tests.optional import needs

needs("torch", "onnx", "onnxscript", "onnxruntime")

SIZE = (96, 112)
Found = tuple[dict[str, Peer], dict[str, str]]


def made(
    folder: Path,
    *,
    quick: bool = True,
    calibrated: bool = True,
    only: tuple[str, ...] = (),
    shared: RuntimeContext | None = None,
) -> tuple[RuntimeContext, dict[str, Peer], dict[str, str]]:
    """Peers of the runtimes, and why others are absent; ``shared`` has made the file and the reference."""
    checkpoint = resolve("improved_unet", SIZE)
    images = gather(phantom_recipe("test", calibration=4, validation=0), None).calibration
    tensors = [to_tensor(image, checkpoint.spec) for image in images]
    context = RuntimeContext(checkpoint, tensors[:2], 1, folder, tensors if calibrated else ())
    if shared is not None:
        context.__dict__ |= {name: getattr(shared, name) for name in ("checks", "reference", "onnx", "gflop")}
    makers = runtimes(context, quick=quick)
    absent: dict[str, str] = {}
    chosen = {name: make for name, make in makers.items() if not only or name in only}
    peers = prepare("runtime", chosen, absent, lambda _: None)
    return context, {peer.name: peer for peer in peers}, absent


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RuntimeContext, dict[str, Peer], dict[str, str]]:
    return made(tmp_path_factory.mktemp("runtimes"))


@pytest.fixture
def shared(everything: Any) -> RuntimeContext:
    """The context that they were made with."""
    context: RuntimeContext = everything[0]
    return context


@pytest.fixture
def found(everything: Any) -> Found:
    """The peers, and why others are absent."""
    return everything[1], everything[2]


def test_every_runtime_is_there_or_says_why(found: Found) -> None:
    peers, absent = found
    assert set(absent) == {f"runtime {OURS_INT8}", "runtime torch.compile"}
    assert "192x224" in absent[f"runtime {OURS_INT8}"]
    assert "--quick" in absent["runtime torch.compile"]
    assert list(peers) == [
        OURS_FP32,
        *([OURS_BF16] if can_compute_in("bf16") else []),
        "torch eager",
        "torch eager, channels last",
        "ONNX Runtime",
        "ONNX Runtime, INT8",
        "OpenCV DNN",
        "OpenCV DNN, classic",
        "OpenVINO by itself",
    ]


DIFFERENCE = {"fp32": 1e-4, "bf16": 0.2, "int8": 0.5}
"""The largest of any pixel's probability that is allowed, by the precision that a runtime computes in:
OpenVINO takes bf16 by default on processors that have it."""
MASK_DICE = {"fp32": 0.999, "bf16": 0.95, "int8": 0.85}


def test_they_compute_the_same(found: Found) -> None:
    for name, peer in found[0].items():
        against, precision = OURS_FP32, "fp32"
        if name == "ONNX Runtime, INT8":
            against, precision = OURS_INT8, "int8"
        elif name in (OURS_BF16, PLAIN) and can_compute_in("bf16"):
            against, precision = OURS_BF16, "bf16"
        assert peer.call() == 1
        assert peer.row.precision == precision
        assert peer.row.difference < DIFFERENCE[peer.row.precision], name
        assert peer.row.mask_dice > MASK_DICE[peer.row.precision], name
        assert peer.row.gflop == pytest.approx(4.565, abs=0.01)
        assert peer.row.version
        assert peer.row.settings
        assert peer.row.against == against
        assert peer.row.ours == (name in (OURS_FP32, OURS_BF16))


def test_our_bf16_is_there_where_openvino_takes_it_by_default(
    tmp_path: Path, shared: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for able, names in ((True, [OURS_FP32, OURS_INT8, OURS_BF16]), (False, [OURS_FP32, OURS_INT8])):
        monkeypatch.setattr(module, "can_compute_in", lambda precision, able=able: able)
        found = list(runtimes(shared, quick=True))
        assert found[: len(names)] == names
        assert (OURS_BF16 in found) == able


def test_the_int8_peer_really_is_one(found: Found) -> None:
    assert found[0]["ONNX Runtime, INT8"].row.difference > 1e-3


def test_opencvs_threads_are_set_for_its_own_net_only(found: Found) -> None:
    import cv2

    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        found[0]["OpenCV DNN"].call()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_a_missing_package_takes_only_its_own_peers(
    tmp_path: Path, shared: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    names = ("ONNX Runtime", "ONNX Runtime, INT8", OURS_FP32)
    _, peers, absent = made(tmp_path, only=names, shared=shared)
    assert list(peers) == [OURS_FP32]
    assert set(absent) == {"runtime ONNX Runtime", "runtime ONNX Runtime, INT8"}
    assert all("pip install 'streamseg[bench]'" in reason for reason in absent.values())


def test_int8_without_frames_to_calibrate_on(tmp_path: Path, shared: RuntimeContext) -> None:
    _, _, absent = made(tmp_path, calibrated=False, only=("ONNX Runtime, INT8",), shared=shared)
    assert absent == {"runtime ONNX Runtime, INT8": "no frames were given to calibrate it on"}


def test_a_runtime_that_lies_is_absent(
    tmp_path: Path, shared: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV's answers are spoilt: it must not appear among the fast ones."""
    import cv2

    class Liar:
        def setInput(self, tensor: np.ndarray) -> None:  # noqa: N802
            self.shape = tensor.shape

        def forward(self) -> np.ndarray:
            return np.zeros(self.shape, np.float32)

    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda *_: Liar())
    _, peers, absent = made(tmp_path, only=(OURS_FP32, "OpenCV DNN"), shared=shared)
    assert list(peers) == [OURS_FP32]
    assert "computes something else" in absent["runtime OpenCV DNN"]


@pytest.mark.slow
def test_torch_compiles(tmp_path: Path) -> None:
    _, peers, absent = made(tmp_path, quick=False, only=("torch.compile",))
    assert absent == {}
    assert peers["torch.compile"].row.difference < 1e-4
    assert peers["torch.compile"].call() == 1


SHAPE = (32, 48)


def frames(count: int = 3) -> list[np.ndarray]:
    return [np.full((1, 1, *SHAPE), k, np.float32) for k in range(count)]


def answer(tensor: np.ndarray) -> np.ndarray:
    """A block of nerve that depends on the frame."""
    found = np.zeros((1, *SHAPE), np.float32)
    found[0, 4:20, 4 : 20 + round(abs(float(tensor[0, 0, 0, 0])))] = 0.9
    return found


def judged(infer: Infer, precision: str = "fp32") -> dict[str, float]:
    reference = [answer(tensor) for tensor in frames()]
    return agreement(infer, frames(), reference, precision=precision, threshold=0.5)


def test_the_same_numbers_agree() -> None:
    assert judged(answer) == {"difference": 0.0, "mask_dice": 1.0}
    found = judged(lambda tensor: answer(tensor) + np.float32(EXACT / 2))
    assert found["difference"] == pytest.approx(EXACT / 2, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "precision"),
    [
        (lambda tensor: answer(tensor) + np.float32(0.01), "fp32"),  # INT8 that calls itself FP32
        (lambda tensor: answer(tensor)[:, ::-1], "int8"),  # upside down
        (lambda tensor: np.zeros((1, *SHAPE), np.float32), "int8"),  # finds nothing, and is near in the mean
        (lambda tensor: answer(frames()[0]) * 0.1 + 0.3, "bf16"),
    ],
)
def test_a_runtime_that_computes_something_else_is_refused(wrong: Infer, precision: str) -> None:
    with pytest.raises(EngineError, match="computes something else"):
        judged(wrong, precision)


def test_a_runtime_that_gives_no_probabilities_is_refused() -> None:
    for wrong in (lambda t: answer(t) * np.float32(np.nan), lambda t: answer(t)[:, :5]):
        with pytest.raises(EngineError, match="no probabilities"):
            judged(wrong)


def test_lower_precision_may_differ_a_little_but_not_in_its_masks() -> None:
    assert judged(lambda tensor: answer(tensor) * np.float32(0.99), "int8")["mask_dice"] == 1
    near = [np.full(SHAPE, 0.4999, np.float32)] * 3

    def other(_: np.ndarray) -> np.ndarray:
        return np.full(SHAPE, 0.5001, np.float32)

    with pytest.raises(EngineError, match=r"masks have Dice 0\.000"):
        agreement(other, frames(), near, precision="fp32", threshold=0.5)


@pytest.fixture
def context(tmp_path: Path) -> RuntimeContext:
    return RuntimeContext(resolve("improved_unet", (32, 48)), frames(), 1, tmp_path)


def test_a_peer_gets_the_frames_in_turn(context: RuntimeContext) -> None:
    context.__dict__["reference"] = [answer(tensor) for tensor in context.checks]
    fed = []

    def infer(tensor: np.ndarray) -> np.ndarray:
        fed.append(float(tensor[0, 0, 0, 0]))
        return answer(tensor)

    peer = runtime_peer(context, "fake", lambda _: Loaded(infer, "none"), "numpy")
    del fed[:]
    assert [peer.call() for _ in range(4)] == [1] * 4
    assert fed == [0, 1, 2, 0]
    assert peer.row.version == f"numpy {np.__version__}"
    assert peer.row.difference == 0
    assert peer.row.ready_s >= 0


def test_answers_are_compared_on_images_with_a_nerve(tmp_path: Path) -> None:
    """A clip may show none; a runtime that finds nothing would pass."""
    checkpoint = resolve("improved_unet", (96, 112))
    blank = np.full((1, 1, 96, 112), -1, np.float32)
    context = RuntimeContext(checkpoint, [blank], 1, tmp_path)
    assert sum((found > checkpoint.spec.threshold).any() for found in context.reference) >= 2


def test_without_torch_our_own_engine_is_the_reference(
    context: RuntimeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [found.shape for found in context.reference] == [(1, *SHAPE)] * len(context.checks)
    assert context.gflop is None
    with pytest.raises(MissingExtra, match=r"streamseg\[bench\]"):
        context.torch_engine("eager")
    with pytest.raises(MissingExtra, match=r"streamseg\[bench\]"):
        _ = context.onnx
