"""NET_OR_CHECKPOINT: shipped weights, seeded random ones, checkpoints and run folders, at any size."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streamseg import nets  # noqa: E402
from streamseg.backends.eager import EagerBackend  # noqa: E402
from streamseg.backends.loading import WEIGHTS  # noqa: E402
from streamseg.core.errors import EngineError, UsageError  # noqa: E402
from streamseg.core.types import InputSpec  # noqa: E402
from streamseg.engines.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from streamseg.export.source import is_shipped, resolve  # noqa: E402
from streamseg.nets import build_net  # noqa: E402
from tests.nets.random_nets import NARROW  # noqa: E402

SPEC = InputSpec(64, 96, mean=0.25, std=0.25, threshold=0.5)


def test_a_net_s_name_means_its_shipped_weights() -> None:
    shipped = read_checkpoint(WEIGHTS / "improved_unet.safetensors")
    found = resolve("improved_unet")
    assert (found.sha256, found.spec, found.trained) == (shipped.sha256, shipped.spec, True)
    assert is_shipped("improved_unet")


def test_another_size_drops_the_calibration_and_nothing_else() -> None:
    found, own = resolve("improved_unet", (64, 96)), resolve("improved_unet")
    assert (found.spec.height, found.spec.width, found.spec.judgement) == (64, 96, None)
    assert (found.spec.threshold, found.sha256) == (own.spec.threshold, own.sha256)
    size = own.spec.height, own.spec.width
    assert resolve("improved_unet", size).spec == own.spec


@pytest.mark.parametrize(("net", "width"), [("unet", 1), ("segnet", NARROW)])
def test_a_net_without_weights_gets_random_ones_the_same_each_time(
    net: str, width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets, "build_net", partial(build_net, width=width))
    one, two = resolve(net, (32, 64)), resolve(net, (32, 64))
    assert (one.trained, one.folded, one.net) == (False, True, net)
    assert one.sha256 == two.sha256
    assert not is_shipped(net)
    tensor = np.random.default_rng(0).standard_normal((1, 1, 32, 64), np.float32)
    answer = EagerBackend(one, net).infer(tensor)
    assert answer.std() > 0.01  # a net that says the same everywhere would compare nothing


def test_random_weights_leave_the_caller_s_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    resolve("unet", (32, 32))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("given", ["file", "folder"])
def test_a_checkpoint_as_trained_is_folded_and_keeps_its_hash(tmp_path: Path, given: str) -> None:
    torch.manual_seed(0)
    net = build_net("improved_unet", width=NARROW)
    path = tmp_path / "weights.safetensors"
    weights = {name: array.numpy() for name, array in net.state_dict().items()}
    sha256 = write_checkpoint(path, weights, net="improved_unet", folded=False, trained=True, spec=SPEC)
    found = resolve(str(path if given == "file" else tmp_path))
    assert (found.folded, found.sha256) == (True, sha256)
    assert not any("norm" in name for name in found.weights)
    tensor = np.random.default_rng(0).standard_normal((1, 1, 64, 96), np.float32)

    def infer(checkpoint: Checkpoint) -> np.ndarray:
        return EagerBackend(checkpoint, "x", folded=False).infer(tensor)

    assert infer(found) == pytest.approx(infer(read_checkpoint(path)), abs=1e-5)


@pytest.mark.parametrize("source", ["resnet", "missing.safetensors", ""])
def test_a_source_that_is_neither_is_named(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="neither a net"):
        resolve(source)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    with pytest.raises(EngineError, match=r"a\.safetensors"):
        resolve(str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("net", "size", "good"),
    [("unet", (60, 96), "64x96"), ("segnet", (48, 96), "64x96"), ("unet", (64, 8), "64x16")],
)
def test_a_size_that_does_not_fit_names_the_next_that_does(
    net: str, size: tuple[int, int], good: str
) -> None:
    with pytest.raises((UsageError, EngineError), match=good):
        resolve(net, size)
