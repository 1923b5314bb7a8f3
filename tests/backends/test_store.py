"""The engine store with real engines: whole or absent, never lying, whoever builds, swaps or kills."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends import store as store_module
from streamseg.backends.catalog import load_folder
from streamseg.backends.integrity import engine_name
from streamseg.backends.manifest import Manifest, read_manifest
from streamseg.backends.store import EngineStore, default_root
from streamseg.backends.upkeep import findings, leftovers, remove
from streamseg.errors import EngineError, SinkError, UsageError
from streamseg.machine import Machine
from tests.backends.small_engines import SPEC, rewrite, small_model, store_engine

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("model.xml", "model.bin", "manifest.json")


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, in the repository, that runs code about a store."""
    head = (
        "import sys, time; from pathlib import Path; from streamseg.backends.store import EngineStore\n"
        "from tests.backends.small_engines import store_engine, small_model\n"
        "store = EngineStore(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


# ---- where it is, and what engines are called


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "mine"))
    assert EngineStore().root == default_root() == tmp_path / "mine"


def test_a_checkout_has_its_own_store_and_an_installation_uses_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STREAMSEG_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == REPOSITORY / "engines"
    monkeypatch.setattr(store_module, "__file__", str(tmp_path / "site-packages/streamseg/backends/store.py"))
    assert default_root().name == "engines"
    assert default_root().parent.name == "streamseg"
    assert REPOSITORY not in default_root().parents


MANIFEST = Manifest(
    "e",
    "unet",
    "openvino",
    "int8",
    True,
    True,
    SPEC,
    "0" * 64,
    {},
    machine=Machine("p", ("avx2",)),
    versions={"openvino": "2026.4.1"},
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
def test_whatever_makes_it_another_engine_changes_its_name(changes: dict[str, Any]) -> None:
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
def test_what_was_only_measured_does_not(changes: dict[str, Any]) -> None:
    assert engine_name(replace(MANIFEST, **changes)) == engine_name(MANIFEST)


# ---- what is in it


def test_a_store_that_is_not_there_is_empty(store: EngineStore) -> None:
    assert store.entries() == []
    assert store.find("anything") is None
    assert leftovers(store) == []
    assert not store.root.exists()


def test_an_engine_comes_out_as_it_went_in(store: EngineStore) -> None:
    folder = store_engine(store)
    (entry,) = store.entries()
    assert (entry.path, entry.name, entry.sealed, entry.error) == (folder, folder.name, True, None)
    assert entry.manifest == read_manifest(folder)[0]
    assert store.verify(folder) == []
    assert load_folder(folder).name == folder.name
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def test_what_is_no_engine_is_not_listed(store: EngineStore, tmp_path: Path) -> None:
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


# ---- finding


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


def test_of_several_the_one_that_fits_is_meant(store: EngineStore) -> None:
    here, there = Machine("p", ("avx2",)), Machine("p", ("asimd",))
    folders = {machine: store_engine(store, machine=machine) for machine in (here, there)}
    for machine, folder in folders.items():
        found = store.find("unet-openvino", machine)
        assert found is not None
        assert found.path == folder
    with pytest.raises(UsageError, match="give more of the name"):
        store.find("unet-openvino", Machine("p", ()))


# ---- damage


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


def test_engines_that_changed_places_are_found_out(store: EngineStore) -> None:
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
def test_what_a_seal_cannot_vouch_for_is_found(
    store: EngineStore, changes: dict[str, Any], message: str
) -> None:
    folder = store_engine(store)
    rewrite(folder, **changes)
    assert message in "; ".join(store.verify(folder))


def test_files_that_do_not_belong_there_are_named(store: EngineStore) -> None:
    folder = store_engine(store)
    (folder / "extra.so").write_bytes(b"")
    assert store.verify(folder) == ["extra.so does not belong to the engine"]


# ---- building: at once, again, and killed


def test_a_build_that_fails_leaves_nothing(store: EngineStore) -> None:
    with pytest.raises(FileNotFoundError), store.staging() as staged:
        shutil.copy("no such model", staged)
    assert store.entries() == []
    assert list((store.root / ".building").iterdir()) == []


def test_a_new_engine_takes_the_place_of_the_old_one(store: EngineStore) -> None:
    folder = store_engine(store)
    before = read_manifest(folder)[1]
    (folder / "model.bin").unlink()
    assert store_engine(store, speed={"ms": 2.0}) == folder
    assert store.verify(folder) == []
    assert read_manifest(folder)[1] != before
    assert list((store.root / ".building").iterdir()) == []


def test_what_is_no_engine_folder_is_not_replaced(store: EngineStore, tmp_path: Path) -> None:
    folder = store_engine(store)
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is no engine folder"):
        store_engine(store)
    assert folder.is_symlink()


def test_the_old_engine_stays_where_the_new_one_cannot_come(
    store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store_engine(store)
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if target == folder and self.name != "old":
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(SinkError, match="broken"):
        store_engine(store, speed={})
    assert store.verify(folder) == []


BUILD = """
said = []
with store.lock("one", waiting=said.append):
    if not store.entries():
        print("building", flush=True)
        time.sleep(0.5)
        store_engine(store)
        print("built", flush=True)
    else:
        print("found", flush=True)
print(len(said), store.verify(store.entries()[0].path), flush=True)
"""


def test_two_processes_that_build_the_same_end_with_one_engine(store: EngineStore) -> None:
    first = python(BUILD, store.root)
    assert line_of(first) == "building"
    second = python(BUILD, store.root)
    answers = [process.communicate(timeout=120)[0].split("\n")[:-1] for process in (first, second)]
    assert answers == [["built", "0 []"], ["found", answers[1][1]]]
    assert answers[1][1] in ("0 []", "1 []")  # whether it had to wait depends on how long it took to start
    assert len(store.entries()) == 1


def test_who_waits_is_told_and_goes_on(store: EngineStore) -> None:
    said: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with store.lock("one", waiting=said.append):
            entered.set()

    with store.lock("one"), store.lock("two"), store.lock("one"):  # whoever has it may take it again
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.3)
    thread.join(60)
    assert entered.is_set()
    assert said == ["another process is building or replacing one; waiting for it"]


def test_the_lock_of_a_killed_process_is_free(store: EngineStore) -> None:
    process = python(
        "with store.lock('one'), store.staging() as f:\n print(f.name, flush=True); time.sleep(600)",
        store.root,
    )
    token = line_of(process)
    assert leftovers(store) == []  # it is at work there
    kill(process)
    said: list[str] = []
    with store.lock("one", waiting=said.append):
        pass
    assert said == []
    assert [folder.name for folder in leftovers(store)] == [token]


STEPWISE = """
import os, shutil, signal
source, calls, step = Path(sys.argv[2]), 0, 0

def counted(real):
    def call(*given, **named):
        global calls
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return real(*given, **named)
    return call

killed = True
while killed:
    child = os.fork()
    if child == 0:
        Path.rename, os.fsync, shutil.rmtree = map(counted, (Path.rename, os.fsync, shutil.rmtree))
        with store.staging() as staged:
            shutil.copytree(source, staged, dirs_exist_ok=True)
            store.publish(staged, source.name)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    step += 1
    print(killed, len(store.entries()), [store.verify(entry.path) for entry in store.entries()], flush=True)
"""


def test_killed_at_any_step_there_is_the_old_engine_or_the_new_one_or_none(
    store: EngineStore, tmp_path: Path
) -> None:
    """A process is killed at its first call that changes the store, then one at its second, and so on."""
    source = store_engine(EngineStore(tmp_path / "elsewhere"))
    store_engine(store)
    answers = python(STEPWISE, store.root, source).communicate(timeout=120)[0].splitlines()
    assert len(answers) > 6
    assert set(answers[:-1]) <= {"True 1 [[]]", "True 0 []"}
    assert "True 0 []" in answers  # between moving the old one away and the new one into its place
    assert answers[-1] == "False 1 [[]]"
    assert len(leftovers(store)) >= len(answers) - 2
    for finding in findings(store):
        assert finding.reason == "left behind by a build that was killed"
        assert remove(store, finding)
    assert leftovers(store) == []


AGAIN = """
print("go", flush=True)
while True:
    store_engine(store)
"""


def test_killed_at_any_moment_no_half_engine_is_left(store: EngineStore) -> None:
    for delay in range(2):
        process = python(AGAIN, store.root)
        assert line_of(process) == "go"
        wait_for(lambda: bool(store.entries()))
        time.sleep(0.05 + 0.07 * delay)
        kill(process)
        for entry in store.entries():
            assert store.verify(entry.path) == []
            load_folder(entry.path)
    folder = store_engine(store)  # and it goes on as if nothing had been
    assert store.verify(folder) == []


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_reads_while_another_replaces_gets_one_of_the_two(store: EngineStore) -> None:
    folder = store_engine(store)
    stop = threading.Event()
    failed: list[BaseException] = []

    def replace_it() -> None:
        speed = 0
        while not stop.is_set():
            speed += 1
            try:
                store_engine(store, speed={"ms": speed})
            except BaseException as error:
                failed.append(error)
                raise

    thread = threading.Thread(target=replace_it)
    thread.start()
    try:
        for _ in range(20):
            try:
                load_folder(folder).close()
            except EngineError as error:  # between the two: there is none for a moment
                assert "cannot read" in str(error)  # noqa: PT017 - it need not be raised
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert store.verify(folder) == []
