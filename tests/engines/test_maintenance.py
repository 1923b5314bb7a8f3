"""What prune takes out of a store, and what it leaves alone."""

import threading
from pathlib import Path

import pytest

from streamseg.core.hardware import Machine
from streamseg.engines.maintenance import StoreFinding, findings, folder_bytes, remove
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import store_engine

NOWHERE = Machine("another", ("neon",))


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def found(store: EngineStore, *, everything: bool = False) -> dict[str, StoreFinding]:
    return {finding.path.name: finding for finding in findings(store, everything=everything)}


def test_good_engines_stay(store: EngineStore) -> None:
    assert found(store) == {}
    folder = store_engine(store)
    assert found(store) == {}
    everything = found(store, everything=True)
    assert everything[folder.name].removable
    assert everything[folder.name].bytes == folder_bytes(folder) > 0


def test_damaged_and_foreign_engines_and_leftovers_are_removed(store: EngineStore) -> None:
    good, damaged = store_engine(store), store_engine(store, precision="int8")
    elsewhere = store_engine(store, machine=NOWHERE)
    unreadable = store_engine(store, precision="fp16")
    (damaged / "model.bin").write_bytes(b"")
    (unreadable / "manifest.json").write_text("{")
    leftover = store.root / ".building" / "0123456789abcdef"
    leftover.mkdir()
    (leftover / "model.bin").write_bytes(b"half")
    reasons = found(store)
    assert set(reasons) == {damaged.name, elsewhere.name, unreadable.name, leftover.name}
    assert reasons[damaged.name].reason.startswith("damaged: model.bin is damaged")
    assert reasons[elsewhere.name].reason.startswith(
        "does not fit this machine: built for a processor with neon"
    )
    assert reasons[leftover.name].bytes == 4
    for finding in reasons.values():
        assert finding.removable
        assert remove(store, finding)
        assert not finding.path.exists()
    assert [entry.path for entry in store.entries()] == [good]
    assert list((store.root / ".building").iterdir()) == []
    assert found(store) == {}


def test_folders_that_may_not_be_ours_are_left_alone(store: EngineStore, tmp_path: Path) -> None:
    mine, renamed, target = (store_engine(store, precision=name) for name in ("fp32", "fp16", "int8"))
    (mine / "notes.txt").write_text("mine")
    renamed = renamed.rename(store.root / "my favourite")
    target = target.rename(tmp_path / target.name)
    link = store.root / target.name
    link.symlink_to(target)
    for path in (store.root / "README.md", store.root / "notes" / "a.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for everything in (False, True):
        reasons = found(store, everything=everything)
        assert not any(finding.removable for finding in reasons.values())
        assert "left alone, since it also holds notes.txt" in reasons[mine.name].reason
        assert "left alone, since no export gave it this name" in reasons[renamed.name].reason
        assert not {"README.md", "notes"} & set(reasons)
    assert "it is a link" in found(store, everything=True)[link.name].reason


def test_builds_of_another_process_are_left_alone(store: EngineStore) -> None:
    folder = store_engine(store)
    (finding,) = findings(store, everything=True)
    entered, done = threading.Event(), threading.Event()

    def build() -> None:
        with store.lock(folder.name), store.staging():
            entered.set()
            done.wait(60)

    thread = threading.Thread(target=build)
    thread.start()
    try:
        assert entered.wait(60)
        assert not remove(store, finding)
        assert set(found(store)) == set()
        (token,) = [path for path in (store.root / ".building").iterdir() if path.is_dir()]
        assert not remove(store, StoreFinding(token, "", 0, True))
        assert token.is_dir()
    finally:
        done.set()
        thread.join()
    assert remove(store, finding)
    assert not folder.exists()
