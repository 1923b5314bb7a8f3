"""Torch behind an engine's interface: the same answers in every form, and nothing claimed that is not so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamseg.core.errors import EngineError, UsageError
from streamseg.engines.checkpoint import NETS, Checkpoint
from streamseg.export.source import resolve
from streamseg.segmentation.segmenter import Segmenter

torch = pytest.importorskip("torch")

from streamseg.benchmark.torch_engine import TorchEngine, unfolded  # noqa: E402
from streamseg.nets import build_net, fold  # noqa: E402

SIZE = (32, 64)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("improved_unet", SIZE)


def tensor(batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 1, *SIZE), np.float32)


@pytest.mark.parametrize("net", NETS)
def test_as_trained_it_answers_what_the_folded_weights_do(net: str) -> None:
    checkpoint = resolve(net, SIZE)
    trained, folded = (TorchEngine(checkpoint, folded=form, threads=1) for form in (False, True))
    one, two = (engine.infer(tensor()) for engine in (trained, folded))
    assert one.shape == SIZE
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, two, atol=1e-4)
    assert trained.model_bytes > folded.model_bytes
    assert trained.precision_found() == folded.precision_found() == {"fp32": 1.0}
    assert trained.name != folded.name


def test_the_unfolded_net_has_all_that_was_trained(checkpoint: Checkpoint) -> None:
    net = unfolded(checkpoint)
    fresh = build_net(checkpoint.net)
    assert net.state_dict().keys() == fresh.state_dict().keys()
    again = fold(net).state_dict()
    assert all(
        np.allclose(again[name].numpy(), weight, atol=1e-5) for name, weight in checkpoint.weights.items()
    )


def test_weights_of_another_net_are_refused(checkpoint: Checkpoint) -> None:
    missing = {name: array for name, array in checkpoint.weights.items() if not name.startswith("head")}
    for given in (replace(checkpoint, net="segnet"), replace(checkpoint, weights=missing)):
        with pytest.raises(EngineError, match="do not fit the net"):
            unfolded(given)


def test_an_unfolded_checkpoint_is_run_as_it_is(checkpoint: Checkpoint) -> None:
    net = unfolded(checkpoint)
    given = replace(
        checkpoint, folded=False, weights={name: t.numpy() for name, t in net.state_dict().items()}
    )
    found = TorchEngine(given, folded=False).infer(tensor())
    np.testing.assert_allclose(found, TorchEngine(checkpoint, folded=True).infer(tensor()), atol=1e-4)


def test_channels_last_and_batches_change_no_answer(checkpoint: Checkpoint) -> None:
    plain = TorchEngine(checkpoint, folded=True)
    several = TorchEngine(checkpoint, folded=True, form="channels-last", batch=2)
    found = several.infer(tensor(2))
    assert found.shape == (2, *SIZE)
    for number in range(2):
        expected = plain.infer(tensor(2)[number : number + 1])
        np.testing.assert_allclose(found[number], expected, atol=1e-4)
    with pytest.raises(EngineError, match=r"takes a tensor \(2, 1, 32, 64\), received \(1, 1, 32, 64\)"):
        several.infer(tensor())
    with pytest.raises(UsageError, match="2 frames at a time"):
        Segmenter(several)


def test_half_precision_is_found_in_the_weights(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(checkpoint, folded=True, precision="bf16")
    assert engine.precision_found() == {"bf16": 1.0}
    difference = np.abs(engine.infer(tensor()) - TorchEngine(checkpoint, folded=True).infer(tensor()))
    assert 0 < difference.max() < 0.5


def test_what_cannot_be_had_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineError, match="fp16 is for GPUs; take fp32 or bf16"):
        TorchEngine(checkpoint, folded=True, precision="fp16")
    with pytest.raises(EngineError, match="received jit in fp32"):
        TorchEngine(checkpoint, folded=True, form="jit")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="NVIDIA GPU"):
            TorchEngine(checkpoint, folded=True, device="cuda")
    engine = TorchEngine(checkpoint, folded=True)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(tensor())


@pytest.mark.slow
def test_compiled_it_answers_the_same(checkpoint: Checkpoint) -> None:
    engine = TorchEngine(checkpoint, folded=True, form="compile", threads=1)
    expected = TorchEngine(checkpoint, folded=True, threads=1).infer(tensor())
    np.testing.assert_allclose(engine.infer(tensor()), expected, atol=1e-4)
    assert engine.precision_found() == {"fp32": 1.0}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_on_a_gpu(checkpoint: Checkpoint, precision: str) -> None:
    engine = TorchEngine(checkpoint, folded=False, device="cuda", precision=precision)
    expected = TorchEngine(checkpoint, folded=True).infer(tensor())
    atol = 1e-3 if precision == "fp32" else 0.3
    np.testing.assert_allclose(engine.infer(tensor()), expected, atol=atol)
    assert engine.precision_found() == {precision: 1.0}
