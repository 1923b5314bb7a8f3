"""Torch as the reference: agrees with OpenVINO, folds, and says what is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the eager back end needs the extra 'train'")

from streamseg.backends import load_backend  # noqa: E402
from streamseg.backends.eager import EagerBackend  # noqa: E402
from streamseg.core.errors import EngineError, MissingExtra  # noqa: E402
from streamseg.core.types import Backend, InputSpec  # noqa: E402
from streamseg.engines.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from streamseg.nets import build_net, fold  # noqa: E402

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)
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
    plain = EagerBackend(read_checkpoint(checkpoints[False]), "plain", folding=False)
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
