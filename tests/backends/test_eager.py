"""Torch as the reference: agrees with OpenVINO and with itself in every form, and says what is missing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the eager back end needs the extra 'train'")

from streamseg.backends import load_backend  # noqa: E402
from streamseg.backends.eager import EagerBackend  # noqa: E402
from streamseg.core.errors import EngineError, MissingExtra, UsageError  # noqa: E402
from streamseg.core.types import Backend, InputSpec  # noqa: E402
from streamseg.engines.checkpoint import NETS, Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from streamseg.export.source import resolve  # noqa: E402
from streamseg.nets import build_net, fold  # noqa: E402
from streamseg.nets.inference import unfolded  # noqa: E402
from streamseg.segmentation.segmenter import Segmenter  # noqa: E402
from tests.nets.random_nets import random_checkpoint  # noqa: E402

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)
SIZE = (32, 64)
TENSOR = np.random.default_rng(0).normal(size=(1, 1, 32, 48)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The same random improved U-Net, as trained (False) and folded (True)."""
    torch.manual_seed(0)
    net = build_net("improved_unet").eval()
    paths = {}
    for folded in (False, True):
        state = (fold(net) if folded else net).state_dict()
        paths[folded] = tmp_path_factory.mktemp("eager") / "w.safetensors"
        write_checkpoint(
            paths[folded],
            {name: tensor.numpy() for name, tensor in state.items()},
            net="improved_unet",
            folded=folded,
            trained=False,
            spec=SPEC,
        )
    return paths


def test_openvino_and_torch_agree_on_one_checkpoint(checkpoints: dict[bool, Path]) -> None:
    eager = load_backend(checkpoints[True], backend="eager")
    assert isinstance(eager, EagerBackend)
    assert isinstance(eager, Backend)
    assert eager.infer(TENSOR) == pytest.approx(load_backend(checkpoints[True]).infer(TENSOR), abs=1e-5)


def test_an_unfolded_checkpoint_runs_folded_or_as_trained(checkpoints: dict[bool, Path]) -> None:
    backend = load_backend(checkpoints[False])
    assert isinstance(backend, EagerBackend)
    plain = EagerBackend(read_checkpoint(checkpoints[False]), "plain", folded=False)
    assert backend.infer(TENSOR) == pytest.approx(plain.infer(TENSOR), abs=1e-5)
    # float16 weights move the answer, but little
    assert load_backend(checkpoints[True]).infer(TENSOR) == pytest.approx(plain.infer(TENSOR), abs=2e-3)


def test_misuse_is_an_engine_error(checkpoints: dict[bool, Path]) -> None:
    backend = load_backend(checkpoints[True], backend="eager")
    with pytest.raises(EngineError, match="takes a tensor"):
        backend.infer(TENSOR[0])
    backend.close()
    backend.close()
    with pytest.raises(EngineError, match="closed"):
        backend.infer(TENSOR)


def test_weights_of_another_net_are_refused_in_one_line(
    tmp_path: Path, checkpoints: dict[bool, Path]
) -> None:
    weights = read_checkpoint(checkpoints[True]).weights
    path = tmp_path / "w.safetensors"
    write_checkpoint(path, weights, net="segnet", folded=True, trained=False, spec=SPEC)
    with pytest.raises(EngineError, match="do not fit the net 'segnet'") as caught:
        load_backend(path, backend="eager")
    assert "\n" not in str(caught.value)


def test_without_torch_it_names_the_extra(checkpoints: dict[bool, Path]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from streamseg.backends import load_backend\n"
        "from streamseg.core.errors import MissingExtra\n"
        f"load_backend({str(checkpoints[True])!r})\n"
        "try:\n"
        f"    load_backend({str(checkpoints[True])!r}, backend='eager')\n"
        "except MissingExtra as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == str(MissingExtra("the eager back end", "torch", "train"))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("improved_unet", SIZE)


def tensor(batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 1, *SIZE), np.float32)


@pytest.mark.parametrize("net", NETS)
def test_as_trained_it_answers_what_the_folded_weights_do(net: str) -> None:
    checkpoint = random_checkpoint(net, SIZE)
    trained, folded = (EagerBackend(checkpoint, folded=form, threads=1) for form in (False, True))
    one, two = (engine.infer(tensor()) for engine in (trained, folded))
    assert one.shape == (1, *SIZE)
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


def test_weights_of_another_net_are_not_unfolded(checkpoint: Checkpoint) -> None:
    missing = {name: array for name, array in checkpoint.weights.items() if not name.startswith("head")}
    for given in (replace(checkpoint, net="segnet"), replace(checkpoint, weights=missing)):
        with pytest.raises(EngineError, match="do not fit the net"):
            unfolded(given)


def test_an_unfolded_checkpoint_is_run_as_it_is(checkpoint: Checkpoint) -> None:
    net = unfolded(checkpoint)
    given = replace(
        checkpoint, folded=False, weights={name: t.numpy() for name, t in net.state_dict().items()}
    )
    found = EagerBackend(given, folded=False).infer(tensor())
    np.testing.assert_allclose(found, EagerBackend(checkpoint, folded=True).infer(tensor()), atol=1e-4)


def test_channels_last_and_batches_change_no_answer(checkpoint: Checkpoint) -> None:
    plain = EagerBackend(checkpoint, folded=True)
    several = EagerBackend(checkpoint, folded=True, form="channels-last", batch=2)
    found = several.infer(tensor(2))
    assert found.shape == (2, 1, *SIZE)
    for number in range(2):
        expected = plain.infer(tensor(2)[number : number + 1])
        np.testing.assert_allclose(found[number], expected, atol=1e-4)
    with pytest.raises(EngineError, match=r"takes a tensor \(2, 1, 32, 64\), received \(1, 1, 32, 64\)"):
        several.infer(tensor())
    with pytest.raises(UsageError, match="2 frames at a time"):
        Segmenter(several)


def test_half_precision_is_found_in_the_weights(checkpoint: Checkpoint) -> None:
    engine = EagerBackend(checkpoint, folded=True, precision="bf16")
    assert engine.precision_found() == {"bf16": 1.0}
    difference = np.abs(engine.infer(tensor()) - EagerBackend(checkpoint, folded=True).infer(tensor()))
    assert 0 < difference.max() < 0.5


def test_unavailable_forms_and_devices_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineError, match="fp16 is for GPUs; take fp32 or bf16"):
        EagerBackend(checkpoint, folded=True, precision="fp16")
    with pytest.raises(EngineError, match="received jit in fp32"):
        EagerBackend(checkpoint, folded=True, form="jit")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="NVIDIA GPU"):
            EagerBackend(checkpoint, folded=True, device="cuda")
    engine = EagerBackend(checkpoint, folded=True)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(tensor())


@pytest.mark.slow
def test_compiled_it_answers_the_same(checkpoint: Checkpoint) -> None:
    engine = EagerBackend(checkpoint, folded=True, form="compile", threads=1)
    expected = EagerBackend(checkpoint, folded=True, threads=1).infer(tensor())
    np.testing.assert_allclose(engine.infer(tensor()), expected, atol=1e-4)
    assert engine.precision_found() == {"fp32": 1.0}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_eager_nets_on_a_gpu_agree_with_the_processor(checkpoint: Checkpoint, precision: str) -> None:
    engine = EagerBackend(checkpoint, folded=False, device="cuda", precision=precision)
    expected = EagerBackend(checkpoint, folded=True).infer(tensor())
    atol = 1e-3 if precision == "fp32" else 0.3
    np.testing.assert_allclose(engine.infer(tensor()), expected, atol=atol)
    assert engine.precision_found() == {precision: 1.0}


def test_threads_follow_the_environment(
    checkpoints: dict[bool, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("STREAMSEG_THREADS", "3")
    engine = EagerBackend(read_checkpoint(checkpoints[True]))
    try:
        engine.infer(TENSOR)
        assert torch.get_num_threads() == 3
    finally:
        engine.close()
        torch.set_num_threads(before)
    monkeypatch.setenv("STREAMSEG_THREADS", "many")
    with pytest.raises(UsageError, match="STREAMSEG_THREADS"):
        EagerBackend(read_checkpoint(checkpoints[True]))
