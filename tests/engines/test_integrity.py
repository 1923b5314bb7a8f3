"""What makes an engine another one, and that nothing in its folder can be altered or swapped unnoticed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends.loading import load_folder
from streamseg.core.errors import EngineError
from streamseg.core.hardware import Machine
from streamseg.engines.integrity import engine_name
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import DESCRIBED, SPEC, rewrite, small_model, store_engine

NAMES = ("model.xml", "model.bin", "manifest.json")


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


MANIFEST = replace(
    DESCRIBED,
    machine=Machine("p", ("avx2",)),
    calibration={"sha256": "a", "frames": 3},
)


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "segnet"},
        {"backend": "onnx"},
        {"precision": "fp16"},
        {"folded": False},
        {"trained": False},
        {"spec": replace(SPEC, threshold=0.6)},
        {"checkpoint_sha256": "1" * 64},
        {"batch": 2},
        {"machine": Machine("p", ("avx2", "avx512f"))},
        {"versions": {"openvino": "2025.1"}},
        {"calibration": {"sha256": "b"}},
    ],
)
def test_every_distinguishing_value_changes_the_name(changes: dict[str, Any]) -> None:
    assert engine_name(MANIFEST).startswith("unet-openvino-int8-32x48-b1-")
    assert engine_name(replace(MANIFEST, **changes)) != engine_name(MANIFEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"machine": Machine("another model", ("avx2",), gpu="any")},
        {"gate": {"passed": True}},
        {"speed": {"ms": 2.0}},
        {"calibration": {"sha256": "a", "frames": 4}},
    ],
)
def test_measured_figures_do_not_change_the_name(changes: dict[str, Any]) -> None:
    assert engine_name(replace(MANIFEST, **changes)) == engine_name(MANIFEST)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_anywhere_in_any_file_is_refused(store: EngineStore, name: str) -> None:
    folder = store_engine(store)
    whole = (folder / name).read_bytes()
    for place in range(0, len(whole), 3 if name == "manifest.json" else 11):
        data = bytearray(whole)
        data[place] ^= 1 << place % 4
        (folder / name).write_bytes(data)
        with pytest.raises(EngineError):
            load_folder(folder)
    assert store.verify(folder)
    (folder / name).write_bytes(whole)
    assert store.verify(folder) == []
    load_folder(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_or_cut_file_is_refused(store: EngineStore, name: str) -> None:
    folder = store_engine(store)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-2])
    assert any(name in problem for problem in store.verify(folder))
    (folder / name).unlink()
    assert any(name in problem for problem in store.verify(folder))
    with pytest.raises(EngineError, match=name):
        load_folder(folder)
    assert [entry.path for entry in store.entries()] == [folder]


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_file_swapped_with_another_engine_is_refused(store: EngineStore, name: str) -> None:
    first = store_engine(store)
    second = store_engine(store, small_model(SPEC, scale=3), checkpoint_sha256="1" * 64)
    if (first / name).read_bytes() == (second / name).read_bytes():
        pytest.skip("both engines have the same file, so nothing was swapped")
    (first / name).rename(first.parent / "aside")
    (second / name).rename(first / name)
    (first.parent / "aside").rename(second / name)
    for folder in (first, second):
        assert any("another file" in problem for problem in store.verify(folder))
        with pytest.raises(EngineError, match="not the file that the manifest describes"):
            load_folder(folder)


def test_swapped_engines_are_detected(store: EngineStore) -> None:
    first, second = store_engine(store), store_engine(store, batch=2)
    first.rename(store.root / "aside")
    second.rename(first)
    (store.root / "aside").rename(second)
    for folder in (first, second):
        assert any("the folder is called" in problem for problem in store.verify(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"trained": False},
        {"gate": {"passed": True, "dice": 1.0}},
        {"precision_found": {"int8": 1.0}},
        {"files": {}},
        {"spec": SPEC.to_json() | {"threshold": 0.1}},
        {"checkpoint_sha256": "f" * 64},
        {"portable": True, "machine": None},
        {"more": 1},
    ],
)
def test_an_edited_manifest_is_refused(store: EngineStore, changes: dict[str, Any]) -> None:
    folder = store_engine(store)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert store.verify(folder)
    assert not store.entries()[0].sealed
    with pytest.raises(EngineError, match="was altered after it was written"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate": {"passed": False}}, "did not pass the accuracy gate"),
        ({"gate": {}}, "did not pass the accuracy gate"),
        ({"precision": "int8"}, "it should be unet-openvino-int8"),
        ({"name": "another"}, "its engine another"),
    ],
)
def test_problems_that_a_seal_does_not_cover_are_found(
    store: EngineStore, changes: dict[str, Any], message: str
) -> None:
    folder = store_engine(store)
    rewrite(folder, **changes)
    assert message in "; ".join(store.verify(folder))


def test_files_that_do_not_belong_there_are_named(store: EngineStore) -> None:
    folder = store_engine(store)
    (folder / "extra.so").write_bytes(b"")
    assert store.verify(folder) == ["extra.so does not belong to the engine"]
