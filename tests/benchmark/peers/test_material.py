"""A runtime that computes something else is refused, whatever its speed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from streamseg.benchmark.peers.material import EXACT, Infer, Material, agreement, runtime_peer
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.export.source import resolve

SHAPE = (32, 48)


def frames(count: int = 3) -> list[np.ndarray]:
    return [np.full((1, 1, *SHAPE), k, np.float32) for k in range(count)]


def answer(tensor: np.ndarray) -> np.ndarray:
    """A block of nerve that depends on the frame."""
    found = np.zeros(SHAPE, np.float32)
    found[4:20, 4 : 20 + round(abs(float(tensor[0, 0, 0, 0])))] = 0.9
    return found


def judged(infer: Infer, precision: str = "fp32", *, masks: bool = True) -> dict[str, float]:
    reference = [answer(tensor) for tensor in frames()]
    return agreement(infer, frames(), reference, precision=precision, threshold=0.5, masks=masks)


def test_the_same_numbers_agree() -> None:
    assert judged(answer) == {"difference": 0.0, "mask_dice": 1.0}
    found = judged(lambda tensor: answer(tensor) + np.float32(EXACT / 2))
    assert found["difference"] == pytest.approx(EXACT / 2, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "precision"),
    [
        (lambda tensor: answer(tensor) + np.float32(0.01), "fp32"),  # INT8 that calls itself FP32
        (lambda tensor: answer(tensor)[::-1], "int8"),  # upside down
        (lambda tensor: np.zeros(SHAPE, np.float32), "int8"),  # finds nothing, and is near in the mean
        (lambda tensor: answer(frames()[0]) * 0.1 + 0.3, "bf16"),
    ],
)
def test_what_computes_something_else_is_refused(wrong: Infer, precision: str) -> None:
    with pytest.raises(EngineError, match="computes something else"):
        judged(wrong, precision)


def test_what_gives_no_probabilities_is_refused() -> None:
    for wrong in (lambda t: answer(t) * np.float32(np.nan), lambda t: answer(t)[:5]):
        with pytest.raises(EngineError, match="no probabilities"):
            judged(wrong)


def test_lower_precision_may_differ_a_little_and_random_weights_have_no_masks() -> None:
    assert judged(lambda tensor: answer(tensor) * np.float32(0.99), "int8")["mask_dice"] == 1
    near = [np.full(SHAPE, 0.4999, np.float32)] * 3

    def other(_: np.ndarray) -> np.ndarray:
        return np.full(SHAPE, 0.5001, np.float32)

    agreement(other, frames(), near, precision="fp32", threshold=0.5, masks=False)
    with pytest.raises(EngineError, match=r"masks have Dice 0\.000"):
        agreement(other, frames(), near, precision="fp32", threshold=0.5)


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return Material(resolve("improved_unet", (32, 48)), frames(), 1, tmp_path)


def test_a_peer_gets_the_frames_in_turn(material: Material) -> None:
    material.__dict__["reference"] = [answer(tensor) for tensor in material.checks]
    fed = []

    def infer(tensor: np.ndarray) -> np.ndarray:
        fed.append(float(tensor[0, 0, 0, 0]))
        return answer(tensor)

    began = material.start()
    peer = runtime_peer(material, "fake", infer, began=began, package="numpy", remark="none")
    del fed[:]
    assert [peer.call() for _ in range(4)] == [1] * 4
    assert fed == [0, 1, 2, 0]
    assert peer.version == f"numpy {np.__version__}"
    assert peer.facts["difference"] == 0
    assert peer.facts["ready_s"] >= 0


def test_there_is_a_nerve_in_what_answers_are_compared_on(tmp_path: Path) -> None:
    """A clip may show none; a runtime that finds nothing would pass."""
    checkpoint = resolve("improved_unet", (96, 112))
    blank = np.full((1, 1, 96, 112), -1, np.float32)
    material = Material(checkpoint, [blank], 1, tmp_path)
    assert sum((found > checkpoint.spec.threshold).any() for found in material.reference) >= 2


def test_without_torch_our_own_engine_is_the_reference(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [found.shape for found in material.reference] == [SHAPE] * len(material.checks)
    assert material.gflop is None
    with pytest.raises(MissingExtra, match=r"streamseg\[bench\]"):
        material.torch_engine("eager")
    with pytest.raises(MissingExtra, match=r"streamseg\[bench\]"):
        _ = material.onnx
