"""Which back end an engine's name or path leads to."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from streamseg.backends import DEFAULT, FakeBackend, engine_names, load_backend
from streamseg.backends import loading as catalog
from streamseg.backends.loading import load_folder, locate
from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.core.errors import EngineError, EngineMisfit, UsageError
from streamseg.core.hardware import Machine
from streamseg.engines.checkpoint import write_checkpoint
from streamseg.engines.manifest import Manifest
from streamseg.engines.store import EngineStore
from streamseg.segmentation.segmenter import Segmenter
from tests.backends.small_engines import SPEC, rewrite, small_unet, store_engine, write_engine

ELSEWHERE = Machine("another", ("neon",))


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    write_checkpoint(path, small_unet(), net="unet", folded=True, trained=False, spec=SPEC)
    return path


def test_a_folded_checkpoint_runs_on_openvino_without_torch(folded: Path) -> None:
    backend = load_backend(folded)
    assert isinstance(backend, OpenVINOBackend)
    assert (backend.name, backend.info.precision, backend.info.trained) == ("small", "fp32", False)
    assert backend.info.backend == "openvino"
    answer = backend.infer(np.random.default_rng(0).normal(size=(1, 1, 32, 48)).astype(np.float32))
    assert answer.shape == (1, 32, 48)
    assert 0 <= answer.min() < answer.max() <= 1


def test_weights_that_do_not_fit_their_net_are_an_engine_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights = small_unet()
    del weights["head.bias"]
    write_checkpoint(path, weights, net="unet", folded=True, trained=False, spec=SPEC)
    with pytest.raises(EngineError, match=r"head\.bias"):
        load_backend(path)


def test_a_net_that_openvino_cannot_build_names_the_back_end_that_can(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_checkpoint(path, small_unet(), net="unet", folded=False, trained=False, spec=SPEC)
    with pytest.raises(EngineError, match="unfolded one of unet; use the eager back end"):
        load_backend(path, backend="openvino")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("unknown", f"no engine is called 'unknown'.*known names are {DEFAULT}"),
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
    folded.rename(tmp_path / f"{catalog.DEFAULT_NET}.safetensors")
    assert engine_names()[0] == DEFAULT
    assert load_backend().fingerprint == load_backend(DEFAULT).fingerprint
    name = f"{catalog.DEFAULT_NET}-openvino-fp32"
    assert load_backend(name).name == name


def test_shipped_engines_of_two_nets_lie_side_by_side(
    tmp_path: Path, folded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    alone = engine_names()
    (other,) = {"improved_unet", "lite_unet"} - {catalog.DEFAULT_NET}
    folded.rename(tmp_path / f"{other}.safetensors")
    write_engine(tmp_path / DEFAULT)
    folder = write_engine(tmp_path / f"{other}-openvino-int8")
    rewrite(folder, name=folder.name)
    assert engine_names() == (
        *alone,
        *(f"{other}-{rest}" for rest in ("openvino-int8", "openvino-fp32", "eager-fp32")),
    )
    assert engine_names()[0] == DEFAULT
    assert load_backend(folder.name).name == folder.name
    assert locate(folder.name) == folder
    assert load_backend(f"{other}-openvino-fp32").name == f"{other}-openvino-fp32"


def test_a_net_may_have_weights_without_an_engine(
    tmp_path: Path, folded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    alone = engine_names()
    folded.rename(tmp_path / "unet.safetensors")
    assert engine_names() == (*alone, "unet-openvino-fp32", "unet-eager-fp32")
    assert [folder.name for folder in catalog.shipped_engines()] == [DEFAULT]


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def test_an_engine_of_the_store_has_a_name_and_a_beginning_of_one(store: EngineStore) -> None:
    folder = store_engine(store)
    for name in (folder.name, "unet-openvino-fp32-32x48", "unet-openvino"):
        assert load_backend(name, store=store).name == folder.name
        assert locate(name, store) == folder
    assert load_backend(folder / "manifest.json", store=store).name == folder.name
    with pytest.raises(UsageError, match=r"no engine is called 'unet-onnx'.*streamseg engines list"):
        load_backend("unet-onnx", store=store)


def test_a_folder_that_holds_another_engine_is_refused_by_name(store: EngineStore) -> None:
    first, second = store_engine(store), store_engine(store, precision="int8")
    first.rename(store.root / "aside")
    second.rename(first)
    with pytest.raises(EngineError, match=f"holds engine {second.name}: it was renamed or swapped"):
        load_backend(first.name, store=store)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"machine": ELSEWHERE}, "built for a processor with neon, which this one lacks"),
        ({"versions": {"openvino": "2019.1"}}, r"built with openvino 2019\.1, this machine has"),
        ({"backend": "tensorrt", "versions": {"tensorrt": "10.15"}}, "this machine has no NVIDIA GPU"),
    ],
)
def test_an_engine_for_another_machine_is_never_deserialised(
    store: EngineStore, changes: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamseg.core.hardware.nvidia_gpus", list)
    folder = store_engine(store, **changes)
    (folder / "model.xml").unlink()  # nobody looks at it
    backend = changes.get("backend", "openvino")
    with pytest.raises(EngineMisfit, match=reason) as caught:
        load_backend(folder, store=store)
    command = f"streamseg export unet --backend {backend} --precision fp32 --size 32x48"
    assert caught.value.command == command
    assert str(caught.value).endswith(f"build it with: {command}")
    assert "\n" not in str(caught.value)


def test_a_machine_mismatch_comes_before_damage_and_damage_is_refused(store: EngineStore) -> None:
    folder = store_engine(store)
    manifest = folder / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole.replace('"avx2"', '"neon"'))
    if manifest.read_text() != whole:
        with pytest.raises(EngineMisfit):
            load_backend(folder)
    manifest.write_text(whole.replace('"trained": true', '"trained": false'))
    with pytest.raises(EngineError, match="was altered"):
        load_backend(folder)


def test_untrustworthy_engines_are_reported(store: EngineStore) -> None:
    said: list[str] = []
    load_backend(store_engine(store), say=said.append)
    assert said == []
    random = store_engine(store, trained=False)
    load_backend(random, say=said.append)
    assert said == [f"engine {random.name} is UNTRAINED: its random weights only serve to measure speed"]
    failed = store_engine(store, precision="int8", gate={"passed": False})
    load_backend(failed, say=said.append)
    assert said[1] == f"engine {failed.name} did not pass the accuracy gate: do not trust its outlines"


def test_every_back_end_has_its_loader(store: EngineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, Manifest, str, int | None, bool]] = []

    def load(
        folder: Path, manifest: Manifest, fingerprint: str, *, threads: int | None, throughput: bool
    ) -> FakeBackend:
        seen.append((folder, manifest, fingerprint, threads, throughput))
        return FakeBackend(SPEC)

    for name, module in catalog.RUNNERS.items():
        fake = ModuleType(module)
        fake.load = load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module, fake)
        folder = write_engine(store.root.parent / name)
        rewrite(folder, backend=name)
        assert isinstance(load_folder(folder, threads=3, throughput=True), FakeBackend)
        assert (seen[-1][0], seen[-1][1].backend, seen[-1][3:]) == (folder, name, (3, True))
        assert len(seen[-1][2]) == 64


def test_a_folder_for_another_back_end_than_asked_for(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "e")
    rewrite(folder, backend="onnx")
    with pytest.raises(UsageError, match="runs on onnx, not on openvino"):
        load_backend(folder, backend="openvino")


def test_an_engine_for_several_frames_is_refused_by_the_segmenter() -> None:
    backend = FakeBackend(SPEC, batch=8)
    with pytest.raises(UsageError, match=r"8 frames at a time.*--batch 1"):
        Segmenter(backend)
