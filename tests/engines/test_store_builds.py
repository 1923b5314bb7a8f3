"""Building into the store: at once, again, and killed at any moment."""

import errno
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streamseg.backends.loading import load_folder
from streamseg.core.errors import EngineError, SinkError, UsageError
from streamseg.engines.maintenance import findings, leftovers, remove
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import store_engine
from tests.waiting import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, in the repository, that runs code about a store."""
    head = (
        "import sys, time; from pathlib import Path; from streamseg.engines.store import EngineStore\n"
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


def test_a_folder_that_is_not_an_engine_is_not_replaced(store: EngineStore, tmp_path: Path) -> None:
    folder = store_engine(store)
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is not an engine folder"):
        store_engine(store)
    assert folder.is_symlink()


def test_the_old_engine_stays_if_the_new_one_cannot_be_moved(
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


def test_a_waiting_process_is_informed_and_goes_on(store: EngineStore) -> None:
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


def test_a_kill_at_any_step_leaves_the_old_engine_or_the_new_one_or_none(
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
        assert finding.reason == "left by a build that was killed"
        assert remove(store, finding)
    assert leftovers(store) == []


AGAIN = """
print("go", flush=True)
while True:
    store_engine(store)
"""


def test_a_kill_at_any_moment_leaves_no_half_engine(store: EngineStore) -> None:
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


def test_reading_while_another_process_replaces_gives_one_of_the_two(store: EngineStore) -> None:
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
