from dataclasses import replace

import numpy as np
import pytest
import torch

from streamseg.backends import load_backend
from streamseg.checkpoint import read_checkpoint, write_checkpoint
from streamseg.errors import EngineError
from streamseg.export.engine import write_engine
from streamseg.export.openvino import build_model
from streamseg.nets import build_net, fold
from streamseg.types import InputSpec

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    weights = {k: v.numpy() for k, v in fold(build_net("unet")).state_dict().items()}
    write_checkpoint(
        tmp_path / "unet.safetensors", weights, net="unet", folded=True, trained=False, spec=SPEC
    )
    return read_checkpoint(tmp_path / "unet.safetensors")


def write(folder, checkpoint, accuracy):
    model = build_model(checkpoint.weights, checkpoint.spec)
    write_engine(folder, model, checkpoint, precision="fp32", accuracy=accuracy, versions={"nncf": "0"})


def test_what_is_written_loads_and_gives_the_checkpoints_answers(tmp_path, checkpoint):
    write(tmp_path / "engine", checkpoint, {"dice": 0.5})
    engine, direct = load_backend(tmp_path / "engine"), load_backend(tmp_path / "unet.safetensors")
    tensor = np.random.default_rng(0).normal(size=(1, 1, 32, 48)).astype(np.float32)
    np.testing.assert_allclose(engine.infer(tensor), direct.infer(tensor), atol=1e-6)
    assert (engine.name, engine.spec) == ("engine", SPEC)


def test_writing_again_replaces_the_folder_and_leaves_nothing_else(tmp_path, checkpoint):
    write(tmp_path / "engine", checkpoint, {"dice": 0.5})
    first = load_backend(tmp_path / "engine").fingerprint
    write(tmp_path / "engine", checkpoint, {"dice": 0.6})
    assert load_backend(tmp_path / "engine").fingerprint != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["engine", "unet.safetensors"]


def test_a_failure_leaves_the_old_engine(tmp_path, checkpoint):
    write(tmp_path / "engine", checkpoint, {})
    before = load_backend(tmp_path / "engine").fingerprint
    broken = replace(checkpoint, spec=InputSpec(33, 48, mean=0.25, std=0.25, threshold=0.5))
    with pytest.raises(EngineError):
        write(tmp_path / "engine", broken, {})
    assert load_backend(tmp_path / "engine").fingerprint == before
