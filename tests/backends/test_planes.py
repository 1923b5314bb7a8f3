"""A net with two planes gives both, in the order of its specification, on every back end."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="random nets are made by torch")

from streamseg.backends import load_backend  # noqa: E402
from streamseg.backends.eager import EagerBackend  # noqa: E402
from streamseg.backends.loading import load_folder  # noqa: E402
from streamseg.core.errors import EngineError  # noqa: E402
from streamseg.core.types import Backend, InputSpec  # noqa: E402
from streamseg.engines.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from streamseg.engines.manifest import read_manifest  # noqa: E402
from streamseg.export.build import build_engine  # noqa: E402
from streamseg.nets.inference import inference_net  # noqa: E402
from tests.backends.small_engines import rewrite, small_model, write_engine  # noqa: E402
from tests.nets.random_nets import images, needs_modelopt, noise, random_checkpoint  # noqa: E402

STRUCTURES = ("nerve", "vessel")
SIZE = (32, 64)
SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, structures=STRUCTURES)
slow = pytest.mark.slow


def two_planes(*, folded: bool = True) -> Checkpoint:
    return random_checkpoint("improved_unet", SIZE, folded=folded, structures=STRUCTURES)


def torch_planes(tensor: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return inference_net(two_planes())(torch.from_numpy(tensor)).numpy()


def built(backend: str, precision: str, batch: int, folder: Path) -> Backend:
    given = images(4) if precision == "int8" else ()
    build_engine(two_planes(), backend, precision, folder, batch=batch, images=given)
    assert read_manifest(folder)[0].spec.structures == STRUCTURES
    return load_folder(folder)


@pytest.mark.parametrize(
    ("backend", "precision", "batch", "tolerance"),
    [
        ("openvino", "fp32", 1, 1e-4),
        ("openvino", "fp32", 2, 1e-4),
        pytest.param("openvino", "int8", 1, 0.1, marks=slow),
        ("onnx", "fp32", 1, 1e-4),
        pytest.param("onnx", "int8", 2, 0.1, marks=[slow, needs_modelopt]),
        pytest.param("compiled", "fp32", 1, 1e-4, marks=slow),
    ],
)
def test_every_engine_gives_both(
    backend: str, precision: str, batch: int, tolerance: float, tmp_path: Path
) -> None:
    engine, tensor = built(backend, precision, batch, tmp_path / "e"), noise(batch, 1, *SIZE)
    found, expected = engine.infer(tensor), torch_planes(tensor)
    engine.close()
    assert found.dtype == np.float32
    assert found.shape == ((2, *SIZE) if batch == 1 else (batch, 2, *SIZE))
    apart = np.abs(found.reshape(expected.shape) - expected)
    assert (apart.max() if precision == "fp32" else apart.mean()) < tolerance
    assert np.abs(expected[:, 0] - expected[:, 1]).mean() > 2 * tolerance  # or their order would not show


@pytest.mark.parametrize(("backend", "folded"), [("eager", True), ("eager", False), ("openvino", True)])
def test_a_checkpoint_on_disk_gives_both(backend: str, folded: bool, tmp_path: Path) -> None:
    checkpoint, path = two_planes(folded=folded), tmp_path / "two.safetensors"
    write_checkpoint(
        path, checkpoint.weights, net=checkpoint.net, folded=folded, trained=False, spec=checkpoint.spec
    )
    engine, tensor = load_backend(path, backend=backend), noise(1, 1, *SIZE)
    assert engine.spec.structures == STRUCTURES
    np.testing.assert_allclose(engine.infer(tensor)[None], torch_planes(tensor), atol=1e-2)
    if folded:
        as_trained = EagerBackend(read_checkpoint(path), folded=False)
        np.testing.assert_allclose(as_trained.infer(tensor)[None], torch_planes(tensor), atol=1e-2)


@pytest.mark.parametrize(
    ("outputs", "structures", "said"),
    [
        (2, ("nerve",), r"output f32 \[1,2,32,48\].*\[1, 1, 32, 48\]"),
        (1, STRUCTURES, r"output f32 \[1,1,32,48\].*\[1, 2, 32, 48\]"),
    ],
)
def test_a_model_of_other_structures_than_its_manifest_says_is_refused(
    outputs: int, structures: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    folder = write_engine(tmp_path / "e", small_model(outputs=outputs), SPEC)
    rewrite(folder, spec=SPEC.to_json() | {"structures": structures})
    with pytest.raises(EngineError, match=said):
        load_folder(folder)


def test_weights_of_other_structures_than_their_specification_says_are_refused(tmp_path: Path) -> None:
    spec, path = InputSpec(*SIZE, 0.25, 0.25, 0.5), tmp_path / "w.safetensors"
    with pytest.raises(
        EngineError, match=r"head \(2, 4, 1, 1\) for the structures nerve, which take one output"
    ):
        write_checkpoint(
            path, two_planes().weights, net="improved_unet", folded=True, trained=False, spec=spec
        )
    assert not path.exists()
