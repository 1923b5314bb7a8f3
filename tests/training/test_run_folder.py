"""What a run's folder says is always true of its saved state, and damage is named."""

import errno
import os
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from streamseg.core.errors import DataError, SinkError, UsageError
from streamseg.training.run_folder import History, RunFolder, TensorBoardLog
from tests.training.runs import CONFIG


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", CONFIG, "data")


HISTORY = History(epoch=1, step=1, seconds=0.5, losses=[0.9, 0.8, 0.7], epochs=[{"epoch": 1, "loss": 0.85}])


def test_a_saved_state_is_restored(folder):
    assert folder.load() is None
    folder.save({"net": {"a": torch.ones(2)}}, HISTORY, finished=False)
    state, history = folder.load()
    assert torch.equal(state["net"]["a"], torch.ones(2))
    assert history == HISTORY
    assert folder.check() is False


def test_a_finished_run_says_so(folder):
    assert folder.check() is False
    folder.save({}, HISTORY, finished=True)
    assert folder.check() is True


def test_nothing_but_the_run_s_files_is_left(folder):
    folder.save({}, HISTORY, finished=True)
    assert {p.name for p in folder.path.iterdir()} == {"run.json", "log.jsonl", "losses.json", "last.pt"}


def test_another_configuration_or_data_is_named(folder):
    folder.save({}, HISTORY, finished=False)
    other = RunFolder(folder.path, replace(CONFIG, learning_rate=0.5, seed=9), "data")
    with pytest.raises(UsageError, match=r"another learning_rate 0\.001 \(now 0\.5\), seed 3 \(now 9\)"):
        other.check()
    with pytest.raises(UsageError, match="another data"):
        RunFolder(folder.path, CONFIG, "other data").check()


@pytest.mark.parametrize("damage", [b"", b"not a run", b"PK\x03\x04cut"])
def test_a_damaged_state_is_named(folder, damage):
    folder.save({}, HISTORY, finished=False)
    (folder.path / "last.pt").write_bytes(damage)
    with pytest.raises(DataError, match=r"cannot read the saved run .*last\.pt"):
        folder.load()


def test_a_damaged_description_is_named(folder):
    folder.save({}, HISTORY, finished=False)
    (folder.path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot read .*run\.json"):
        folder.check()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", '{"config": 3}', '{"finished": NaN}', '{"config": {"seed": 1e999}}', "\xff"]
)
def test_a_hostile_description_is_named(folder, text):
    folder.save({}, HISTORY, finished=False)
    (folder.path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"run\.json"):
        folder.check()


@pytest.mark.parametrize("name", ["run.json", "last.pt"])
def test_a_pipe_is_refused_and_not_waited_for(folder, name):
    folder.save({}, HISTORY, finished=False)
    (folder.path / name).unlink()
    os.mkfifo(folder.path / name)
    with pytest.raises(DataError, match=r"cannot read .*(run\.json|last\.pt)"):
        folder.check() if name == "run.json" else folder.load()


@pytest.mark.parametrize(
    "damage", [{"epoch": -1}, {"step": "1"}, {"seconds": float("inf")}, {"losses": ["a"]}, {"epochs": [3]}]
)
def test_a_history_that_cannot_be_is_named(folder, damage):
    folder.save({}, HISTORY, finished=False)
    path = folder.path / "last.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "history": state["history"] | damage}, path)
    with pytest.raises(DataError, match=r"cannot read the saved run .*last\.pt"):
        folder.load()


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")]
)
def test_a_full_disk_keeps_what_was_saved(folder, monkeypatch, failure):
    folder.save({"net": 1}, HISTORY, finished=False)

    def full(_, path):
        path.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SinkError, match=r"cannot write .*last\.pt: .*what was saved before remains"):
        folder.save({"net": 2}, HISTORY, finished=False)
    assert folder.load()[0]["net"] == 1
    assert not list(folder.path.glob("*.tmp"))


def read_events(folder):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_reads_each_step_once_after_a_broken_run(tmp_path):
    log = TensorBoardLog(tmp_path, 0)
    log.losses(3, [0.9, 0.8, 0.7], rate=0.1)
    log.epoch(3, loss=0.8, dice=0.25, images_per_second=4.0)
    log.close()
    log = TensorBoardLog(tmp_path, 2)  # the last save was after two steps
    log.losses(4, [0.71, 0.6], rate=0.1)
    log.close()
    events = read_events(tmp_path)
    losses = {event.step: round(event.value, 4) for event in events.Scalars("loss/step")}
    assert losses == {1: 0.9, 2: 0.8, 3: 0.71, 4: 0.6}
    assert round(events.Scalars("rate")[-1].value, 4) == 0.1
