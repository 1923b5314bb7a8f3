"""From weights to a judged engine in the store, on real OpenVINO engines of the shipped weights, small."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.backends import load_backend
from streamseg.cli.export import _lines
from streamseg.core.errors import EngineError, StreamsegError, UsageError
from streamseg.engines.checkpoint import write_checkpoint
from streamseg.engines.maintenance import leftovers
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore
from streamseg.export.build import RECIPE_FILE, SCALES_FILE, export, rebuild
from streamseg.export.contract import ExportRequest, ExportResult, LineReporter
from streamseg.export.recipe import Draw, Recipe, frame_hash
from tests.export.built_engines import JUDGED, SIZE, BuiltEngines
from tests.nets.random_nets import random_checkpoint
from tests.optional import needs

needs("torch", "nncf")


def make(store: EngineStore, recipe: Path, said: list[str] | None = None, **options: object) -> ExportResult:
    values: dict[str, object] = {
        "source": "improved_unet",
        "backend": "openvino",
        "precision": "fp32",
        "size": SIZE,
        "recipe": recipe,
    }
    request = ExportRequest(**(values | options))  # type: ignore[arg-type]
    return export(request, store, LineReporter((said if said is not None else []).append))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that takes no time to build of."""
    path = tmp_path_factory.mktemp("narrow") / "narrow.safetensors"
    given = random_checkpoint("improved_unet", SIZE)
    write_checkpoint(path, given.weights, net=given.net, folded=True, trained=False, spec=given.spec)
    return str(path)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_engine_enters_the_store_whole_and_judged(built_engines: BuiltEngines, precision: str) -> None:
    found = built_engines[precision]
    store = EngineStore(found.folder.parent)
    assert found.fresh
    assert store.verify(found.folder) == []
    assert not leftovers(store)
    manifest, _ = read_manifest(found.folder)
    assert found.printed == {"folder": str(found.folder), "fresh": True, **manifest.to_json()}
    assert manifest.passed
    assert (manifest.gate["kind"], manifest.gate["frames"]) == ("masks", 8)
    assert (manifest.precision, manifest.trained, manifest.folded) == (precision, True, True)
    assert sum(manifest.precision_found.values()) == pytest.approx(1)
    assert max(manifest.precision_found, key=lambda name: manifest.precision_found[name]) == precision
    assert manifest.speed["ms"] > 0
    assert "ratio" not in manifest.speed  # another size than the shipped engine's: nothing to compare with
    assert manifest.built["bytes"] > 1e6


def test_int8_keeps_its_recipe_and_its_scales(built_engines: BuiltEngines) -> None:
    recipe = built_engines.recipe
    folder, calibration = built_engines["int8"].folder, built_engines["int8"].manifest.calibration
    assert json.loads((folder / RECIPE_FILE).read_text()) == json.loads(recipe.read_text())
    assert len(json.loads((folder / SCALES_FILE).read_text())) > 10
    assert (calibration["frames"], calibration["data"], calibration["preset"]) == (6, "phantom", "mixed")
    assert built_engines["fp32"].manifest.calibration == {}


def test_an_engine_in_the_store_is_not_built_again(
    built_engines: BuiltEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the frames made that would judge it."""
    monkeypatch.setattr("streamseg.export.build.gather", None)
    again = make(built_engines.store, built_engines.recipe)
    assert not again.fresh
    assert again.folder == built_engines["fp32"].folder
    assert again.manifest == built_engines["fp32"].manifest


def test_a_damaged_engine_is_rebuilt_on_request(
    built_engines: BuiltEngines, tmp_path: Path, narrow: str
) -> None:
    store, recipe = EngineStore(tmp_path), built_engines.recipe
    folder = make(store, recipe, source=narrow).folder
    data = bytearray((folder / "model.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.bin").write_bytes(data)
    with pytest.raises(EngineError, match="not the file that the manifest describes"):
        load_backend(folder, store=store)
    again = make(store, recipe, source=narrow)
    assert again.fresh
    assert again.folder == folder
    assert store.verify(folder) == []


def test_an_engine_that_averages_in_the_mirrored_image_is_judged_and_rebuilt_as_such(
    built_engines: BuiltEngines, tmp_path: Path, narrow: str
) -> None:
    store, recipe = EngineStore(tmp_path), built_engines.recipe
    plain = make(store, recipe, source=narrow)
    found = make(store, recipe, source=narrow, mirror=True)
    assert found.fresh
    assert (plain.manifest.spec.mirrored, found.manifest.spec.mirrored) == (False, True)
    assert found.manifest.gate["probability_difference_max"] < 1e-4  # its reference is averaged, too
    assert "1 per call, each with its mirror image" in "\n".join(_lines(found.manifest.to_json()))
    assert not make(store, recipe, source=narrow, mirror=True).fresh
    shutil.rmtree(found.folder)
    assert rebuild(found.manifest, store, say=lambda _: None) == found.folder


def black_data(folder: Path) -> tuple[Path, Recipe]:
    """A data set of black images, and the recipe that calibrates on nothing else."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    image = np.zeros((96, 128), np.uint8)
    for part in ("images", "masks"):
        cv2.imwrite(str(folder / part / "1.png"), image)
    frames = (frame_hash(image),)
    return folder, Recipe("black", "black", 0, "mixed", Draw(frames, 0, 0), JUDGED)


@pytest.mark.slow
def test_the_next_better_precision_is_taken_on_request(tmp_path: Path) -> None:
    data, broken = black_data(tmp_path / "data")
    broken.write(tmp_path / "broken.json")
    said: list[str] = []
    found = make(
        EngineStore(tmp_path / "engines"),
        tmp_path / "broken.json",
        said,
        precision="int8",
        data=data,
        better=True,
    )
    assert found.manifest.precision == "fp32"
    assert found.manifest.passed
    assert any("taking fp32 instead" in line for line in said)


@pytest.mark.parametrize("net", ["unet", pytest.param("segnet", marks=pytest.mark.slow)])
def test_a_net_without_weights_is_marked_and_compared_by_probabilities(
    built_engines: BuiltEngines, tmp_path: Path, net: str
) -> None:
    said: list[str] = []
    found = make(EngineStore(tmp_path), built_engines.recipe, said, source=net, size=(32, 32)).manifest
    assert not found.trained
    assert found.gate["kind"] == "probabilities"
    assert any("UNTRAINED" in line for line in said)


def test_an_engine_with_vessels_is_judged_on_both_and_says_so(
    built_engines: BuiltEngines, tmp_path: Path
) -> None:
    given = random_checkpoint("improved_unet", SIZE, structures=("nerve", "vessel"))
    path = tmp_path / "both.safetensors"
    write_checkpoint(path, given.weights, net=given.net, folded=True, trained=True, spec=given.spec)
    found = make(EngineStore(tmp_path / "store"), built_engines.recipe, source=str(path))
    assert found.manifest.spec.structures == ("nerve", "vessel")
    vessel = found.manifest.gate["structures"]["vessel"]
    assert vessel["mask_dice_mean"] >= vessel["limits"]["mask_dice_mean"][1]
    assert vessel["dice"] == pytest.approx(vessel["dice_fp32"], abs=1e-3)
    assert read_manifest(found.folder)[0] == found.manifest
    again = make(EngineStore(tmp_path / "store"), built_engines.recipe, source=str(path))
    assert not again.fresh
    lines = "\n".join(_lines(found.manifest.to_json()))
    assert "outlines:   nerve, vessel" in lines
    assert f"; vessel: mean Dice to FP32's masks {vessel['mask_dice_mean']:.4f}" in lines


def test_a_batch_is_judged_too(built_engines: BuiltEngines, tmp_path: Path, narrow: str) -> None:
    found = make(EngineStore(tmp_path), built_engines.recipe, source=narrow, batch=3, size=(32, 32))
    assert found.manifest.batch == 3
    tensor = np.zeros((3, 1, 32, 32), np.float32)
    assert load_backend(found.folder).infer(tensor).shape == (3, 1, 32, 32)


def test_an_engine_of_another_machine_is_built_again_from_its_manifest(
    built_engines: BuiltEngines, tmp_path: Path
) -> None:
    folder = tmp_path / built_engines["int8"].folder.name
    shutil.copytree(built_engines["int8"].folder, folder)
    manifest = built_engines["int8"].manifest
    assert manifest.machine is not None
    replace(manifest, machine=replace(manifest.machine, features=("asimd",))).write(folder)
    store, said = EngineStore(tmp_path), []
    fresh = rebuild(read_manifest(folder)[0], store, say=said.append)
    assert store.verify(fresh) == []
    found = read_manifest(fresh)[0]
    assert found.machine == manifest.machine
    assert found.calibration["sha256"] == manifest.calibration["sha256"]  # the recipe in the folder was used
    assert found.files == manifest.files  # the same recipe gives the same engine, byte for byte
    assert fresh.name == folder.name
    assert load_backend(fresh).spec == manifest.spec


def test_weights_that_are_no_longer_the_engine_s_are_refused(
    built_engines: BuiltEngines, tmp_path: Path
) -> None:
    other = replace(built_engines["fp32"].manifest, checkpoint_sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(UsageError, match="no longer holds the weights"):
        rebuild(other, EngineStore(tmp_path), say=print)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "caffe"}, "choose one of openvino"),
        ({"precision": "int4"}, "choose one of fp32"),
        ({"batch": 0}, "1 to 1024"),
        ({"size": (60, 96)}, "64x96"),
        ({"source": "resnet"}, "neither a net"),
    ],
)
def test_invalid_requests_are_refused_before_anything_is_built(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(StreamsegError, match=message):
        make(EngineStore(tmp_path / "none"), tmp_path / "none.json", **options)
    assert not (tmp_path / "none").exists()
