"""The engine store with real engines: where it is, what is in it, and finding one by name."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from streamseg.backends.loading import load_folder
from streamseg.core.errors import EngineError, SinkError, UsageError
from streamseg.core.hardware import Machine
from streamseg.engines import store as store_module
from streamseg.engines.maintenance import leftovers
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore, default_root
from tests.backends.small_engines import SPEC, store_engine

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "mine"))
    assert EngineStore().root == default_root() == tmp_path / "mine"


def test_a_checkout_has_its_own_store_and_an_installation_uses_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STREAMSEG_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == REPOSITORY / "engines"
    monkeypatch.setattr(store_module, "__file__", str(tmp_path / "site-packages/streamseg/engines/store.py"))
    assert default_root().name == "engines"
    assert default_root().parent.name == "streamseg"
    assert REPOSITORY not in default_root().parents


def test_a_missing_store_is_empty(store: EngineStore) -> None:
    assert store.entries() == []
    assert store.find("anything") is None
    assert leftovers(store) == []
    assert not store.root.exists()


def test_a_published_engine_is_unchanged(store: EngineStore) -> None:
    folder = store_engine(store)
    (entry,) = store.entries()
    assert (entry.path, entry.name, entry.sealed, entry.error) == (folder, folder.name, True, None)
    assert entry.manifest == read_manifest(folder)[0]
    assert store.verify(folder) == []
    assert load_folder(folder).name == folder.name
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "model.bin", "model.xml"}


def test_folders_that_are_not_engines_are_not_listed(store: EngineStore, tmp_path: Path) -> None:
    folder = store_engine(store)
    (store.root / "README.md").write_text("mine")
    (store.root / "notes").mkdir()
    (store.root / ".hidden").mkdir()
    (store.root / "unet-openvino-fp32-32x48-b1-00000000").symlink_to(tmp_path)
    assert [entry.path for entry in store.entries()] == [folder]


def test_a_store_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = EngineStore(tmp_path / "file")
    with pytest.raises(EngineError, match=r"cannot read the engine store .*STREAMSEG_ENGINES"):
        store.entries()
    with pytest.raises(SinkError, match=r"cannot write into the engine store .*STREAMSEG_ENGINES"):
        store_engine(store)


def test_a_full_disk_while_building_is_one_clear_error(store: EngineStore) -> None:
    with pytest.raises(SinkError, match="No space left"), store.staging():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), store.staging():
        raise FileNotFoundError
    assert leftovers(store) == []


def test_names_may_be_shortened_while_they_are_clear(store: EngineStore) -> None:
    small = store_engine(store)
    eight = store_engine(store, batch=8)
    large = store_engine(store, spec=replace(SPEC, height=64))
    for name, folder in (
        (small.name, small),
        (small.name[:-3], small),
        ("unet-openvino-fp32-32x48", small),
        ("unet-openvino-fp32-32x48-b8", eight),
        ("unet-openvino-fp32-64x48", large),
    ):
        found = store.find(name)
        assert found is not None
        assert found.path == folder
    for name in ("une", "unet-openvino-fp3", "segnet", ""):
        assert store.find(name) is None
    with pytest.raises(UsageError, match=f"any of the engines .*{large.name}"):
        store.find("unet")


def test_of_several_engines_the_one_that_fits_is_meant(store: EngineStore) -> None:
    here, there = Machine("p", ("avx2",)), Machine("p", ("asimd",))
    folders = {machine: store_engine(store, machine=machine) for machine in (here, there)}
    for machine, folder in folders.items():
        found = store.find("unet-openvino", machine)
        assert found is not None
        assert found.path == folder
    with pytest.raises(UsageError, match="give more of the name"):
        store.find("unet-openvino", Machine("p", ()))
