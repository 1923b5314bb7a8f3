"""Which back end an engine's name or path leads to."""

from pathlib import Path

import numpy as np
import pytest

from streamseg.backends import DEFAULT, catalog, engine_names, load_backend
from streamseg.backends.openvino import OpenVINOBackend
from streamseg.checkpoint import write_checkpoint
from streamseg.errors import EngineError, UsageError
from tests.backends.small_engines import SPEC, small_unet, write_engine


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    write_checkpoint(path, small_unet(), net="unet", folded=True, trained=False, spec=SPEC)
    return path


def test_a_folded_checkpoint_runs_on_openvino_without_torch(folded: Path) -> None:
    backend = load_backend(folded)
    assert isinstance(backend, OpenVINOBackend)
    assert (backend.name, backend.precision, backend.trained) == ("small", "fp32", False)
    answer = backend.infer(np.random.default_rng(0).normal(size=(1, 1, 32, 48)).astype(np.float32))
    assert answer.shape == (32, 48)
    assert 0 <= answer.min() < answer.max() <= 1


def test_weights_that_do_not_fit_their_net_are_an_engine_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights = small_unet()
    del weights["head.bias"]
    write_checkpoint(path, weights, net="unet", folded=True, trained=False, spec=SPEC)
    with pytest.raises(EngineError, match=r"head\.bias"):
        load_backend(path)


def test_what_openvino_cannot_build_names_the_back_end_that_can(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_checkpoint(path, small_unet(), net="unet", folded=False, trained=False, spec=SPEC)
    with pytest.raises(EngineError, match="unfolded one of unet; use the eager back end"):
        load_backend(path, backend="openvino")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("unknown", "no engine is called 'unknown'.*known names are improved_unet-openvino-int8"),
        ("no/such/folder", "no such folder or file"),
        ("", "no engine is called"),
        (__file__, "is not an engine"),
    ],
)
def test_a_name_or_path_that_leads_nowhere(engine: str, message: str) -> None:
    if engine:
        with pytest.raises(UsageError, match=message):
            load_backend(engine)


def test_contradictory_choices_are_usage_errors(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "e")
    with pytest.raises(UsageError, match="give eager a"):
        load_backend(folder, backend="eager")
    with pytest.raises(UsageError, match="choose one of openvino, eager"):
        load_backend(folder, backend="tensorflow")
    with pytest.raises(UsageError, match="runs on openvino, not on eager"):
        load_backend(None, backend="eager")


def test_a_folder_without_an_engine_says_what_one_holds(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"manifest\.json and the engine's files"):
        load_backend(tmp_path)


def test_names_lead_to_the_shipped_files(
    tmp_path: Path, folded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    write_engine(tmp_path / DEFAULT)
    folded.rename(tmp_path / "improved_unet.safetensors")
    assert engine_names()[0] == DEFAULT
    assert load_backend().fingerprint == load_backend(DEFAULT).fingerprint
    assert load_backend("improved_unet-openvino-fp32").name == "improved_unet-openvino-fp32"
