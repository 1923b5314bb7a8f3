"""Which engine runs when none is named: only one that may stand in for the shipped one, and is faster."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends import DEFAULT, load_backend
from streamseg.backends import loading as catalog
from streamseg.core.hardware import Machine
from streamseg.engines.manifest import Manifest, read_manifest
from streamseg.engines.selection import candidates
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import SPEC, rewrite, small_model, store_engine, write_engine


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A small engine in the place of the shipped one: untrained here, which is never asked of it."""
    folder = write_engine(tmp_path / DEFAULT)
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    return read_manifest(folder)[0]


def names(store: EngineStore, shipped: Manifest, **given: Any) -> list[str]:
    return [entry.name for entry in candidates(store, shipped, **given)]


def test_the_fastest_comes_first(store: EngineStore, shipped: Manifest) -> None:
    found = {
        ratio: store_engine(store, precision=precision, speed={"ms": 1.0, "ratio": ratio}).name
        for ratio, precision in ((0.9, "fp32"), (0.3, "int8"), (0.6, "fp16"), (0.98, "bf16"))
    }
    assert names(store, shipped) == [found[0.3], found[0.6], found[0.9]]
    assert load_backend(store=store).name == found[0.3]


@pytest.mark.parametrize(
    "changes",
    [
        {"trained": False},
        {"folded": False},
        {"net": "segnet"},
        {"batch": 2},
        {"gate": {"passed": False}},
        {"gate": {}},
        {"gate": {"passed": "yes"}},
        {"checkpoint_sha256": "1" * 64},
        {"spec": replace(SPEC, threshold=0.4)},
        {"spec": replace(SPEC, height=64)},
        {"speed": {}},
        {"speed": {"ms": 1.0, "ratio": 1.0}},
        {"speed": {"ms": 1.0, "ratio": "fast"}},
        {"speed": {"ms": 1.0, "ratio": 0.8, "ratio_high": 0.98}},
        {"speed": {"ms": 1.0, "ratio": 0.8, "ratio_high": None}},
        {"speed": {"ms": 1.0, "ratio": -1}},
        {"speed": {"ms": 1.0, "ratio": 1e-9}},
        {"backend": "compiled"},
        {"speed": {"ms": 1.0, "ratio": float("nan")}},
        {"versions": {"openvino": "2019.1"}},
        {"machine": Machine("p", ("neon",))},
        {"machine": None},
    ],
)
def test_no_other_engine_is_ever_chosen_by_default(
    store: EngineStore, shipped: Manifest, changes: dict[str, Any]
) -> None:
    store_engine(store, **changes)
    assert names(store, shipped) == []
    assert load_backend(store=store).name == "small"


def test_machine_and_versions_decide_which_engines_are_candidates(
    store: EngineStore, shipped: Manifest
) -> None:
    there = Machine("p", ("avx2",))
    name = store_engine(store, machine=there, versions={"openvino": "2030.1"}).name
    assert names(store, shipped, machine=there, versions={"openvino": "2030.1"}) == [name]
    said: list[str] = []
    assert names(store, shipped, machine=there, versions={"openvino": "2031.1"}, say=said.append) == []
    (line,) = said  # or it would be slower from one day to the next, and nobody knew why
    assert f"{name} is passed over: it does not fit this machine (built with openvino 2030.1" in line
    assert "streamseg export unet --backend openvino --precision fp32 --size 32x48" in line


def test_a_damaged_engine_is_skipped_and_reported_and_the_next_one_runs(
    store: EngineStore, shipped: Manifest
) -> None:
    fast = store_engine(store, speed={"ratio": 0.1}, precision="int8")
    second = store_engine(store, speed={"ratio": 0.5})
    data = bytearray((fast / "model.bin").read_bytes())
    data[3] ^= 4
    (fast / "model.bin").write_bytes(data)
    said: list[str] = []
    assert load_backend(store=store, say=said.append).name == second.name
    (line,) = said
    assert line.startswith(f"engine {fast.name} is passed over: ")
    assert "not the file that the manifest describes" in line
    (second / "model.xml").unlink()
    assert load_backend(store=store).name == "small"


def test_untrusted_manifests_are_skipped_and_reported(store: EngineStore, shipped: Manifest) -> None:
    cut, edited, moved = (store_engine(store, precision=name) for name in ("fp32", "fp16", "int8"))
    (cut / "manifest.json").write_text("{")
    text = (edited / "manifest.json").read_text()
    (edited / "manifest.json").write_text(text.replace('"ratio": 0.5', '"ratio": 0.1'))
    moved.rename(moved.with_name("unet-openvino-int8-32x48-b1-00000000"))
    said: list[str] = []
    assert names(store, shipped, say=said.append) == []
    assert len(said) == 3
    assert all("is passed over: " in line for line in said)
    assert load_backend(store=store).name == "small"


def test_a_store_that_cannot_be_read_does_not_keep_live_from_starting(
    shipped: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    assert load_backend(store=EngineStore(tmp_path / "file"), say=said.append).name == "small"
    assert "cannot read the engine store" in said[0]


def test_an_engine_that_does_not_run_is_skipped(store: EngineStore, shipped: Manifest) -> None:
    store_engine(store, small_model(outputs=2))
    said: list[str] = []
    assert load_backend(store=store, say=said.append).name == "small"
    assert "is passed over" in said[0]


def test_naming_an_engine_or_back_end_skips_the_store(store: EngineStore, shipped: Manifest) -> None:
    store_engine(store)
    assert load_backend(DEFAULT, store=store).name == "small"
    assert load_backend(backend="openvino", store=store).name == "small"


def test_a_forged_seal_does_not_make_random_weights_trained(store: EngineStore, shipped: Manifest) -> None:
    folder = store_engine(store, trained=False)
    rewrite(folder, trained=True)
    said: list[str] = []
    assert names(store, shipped, say=said.append) == []
    assert "its manifest is that of another engine" in said[0]
    assert store.verify(folder) != []
