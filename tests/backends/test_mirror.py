"""An engine whose specification is mirrored averages in the mirrored image, as by hand, on every back end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="random nets are made by torch")

from streamseg.backends import load_backend
from streamseg.backends.eager import EagerBackend
from streamseg.backends.loading import load_folder
from streamseg.core.types import Backend, Planes, Tensor
from streamseg.engines.checkpoint import Checkpoint, write_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.export.build import build_engine
from tests.nets.random_nets import images, needs_modelopt, noise, random_checkpoint

SIZE = (32, 64)
slow = pytest.mark.slow


def checkpoint_of(net: str, *, mirrored: bool, folded: bool = True) -> Checkpoint:
    made = random_checkpoint(net, SIZE, folded=folded, structures=("nerve", "vessel"))
    return replace(made, spec=replace(made.spec, mirrored=mirrored))


def by_hand(plain: Backend, tensor: Tensor) -> Planes:
    """The mean of the answers to an image and to its mirror image, turned back."""
    turned = plain.infer(np.ascontiguousarray(tensor[..., ::-1]))
    return (plain.infer(tensor) + turned[..., ::-1]) / 2


def check(plain: Backend, mirrored: Backend, batch: int, tolerance: float = 2e-5) -> None:
    tensor = noise(batch, 1, *SIZE)
    assert (plain.spec.mirrored, mirrored.spec.mirrored) == (False, True)
    assert np.abs(by_hand(plain, tensor) - plain.infer(tensor)).max() > 0.01  # or nothing is averaged
    np.testing.assert_allclose(mirrored.infer(tensor), by_hand(plain, tensor), rtol=0, atol=tolerance)
    plain.close()
    mirrored.close()


@pytest.mark.parametrize(
    ("net", "backend", "precision", "batch"),
    [
        ("improved_unet", "openvino", "fp32", 1),
        ("lite_unet", "openvino", "fp32", 2),
        pytest.param("lite_unet", "openvino", "int8", 1, marks=slow),
        ("improved_unet", "onnx", "fp32", 1),
        pytest.param("improved_unet", "onnx", "int8", 2, marks=[slow, needs_modelopt]),
        pytest.param("improved_unet", "compiled", "fp32", 1, marks=slow),
    ],
)
def test_an_engine_averages_in_the_mirrored_image(
    net: str, backend: str, precision: str, batch: int, tmp_path: Path
) -> None:
    engines = []
    for mirrored in (False, True):
        folder, given = tmp_path / f"{mirrored}", images(4) if precision == "int8" else ()
        checkpoint = checkpoint_of(net, mirrored=mirrored)
        build_engine(checkpoint, backend, precision, folder, batch=batch, images=given)
        assert read_manifest(folder)[0].spec.mirrored is mirrored
        engines.append(load_folder(folder))
    check(*engines, batch)


@pytest.mark.parametrize(("backend", "folded"), [("openvino", True), ("eager", True), ("eager", False)])
def test_a_checkpoint_on_disk_averages_in_the_mirrored_image(
    backend: str, folded: bool, tmp_path: Path
) -> None:
    engines = []
    for mirrored in (False, True):
        made, path = (
            checkpoint_of("improved_unet", mirrored=mirrored, folded=folded),
            tmp_path / f"{mirrored}",
        )
        path = path.with_suffix(".safetensors")
        write_checkpoint(path, made.weights, net=made.net, folded=folded, trained=False, spec=made.spec)
        engines.append(load_backend(path, backend=backend))
    check(*engines, 1)


def test_the_net_as_trained_averages_several_images() -> None:
    engines = [
        EagerBackend(checkpoint_of("improved_unet", mirrored=mirrored), folded=False, batch=2)
        for mirrored in (False, True)
    ]
    check(*engines, 2)
