"""Recordings that are begun and ended during a run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from streamseg.capture.recording.format import recordings_in
from streamseg.core.errors import SinkError
from streamseg.core.view import Command, RunObserver
from streamseg.recording import Recorder, RecorderToggle
from tests.capture.media import read_all
from tests.recording.runs import HEADER, found_in, frame_of, pass_frame
from tests.waiting import wait_for


def test_a_command_begins_a_recording_and_the_next_ends_it(tmp_path: Path) -> None:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder(tmp_path, header=HEADER, min_free=0))
        return made[-1]

    toggle = RecorderToggle(make, say=print)
    assert isinstance(toggle, RunObserver)
    pass_frame(toggle, frame_of(0))
    assert toggle.status() is None
    for count in (1, 2):
        toggle.command(Command.QUIT)
        toggle.command(Command.RECORD)
        wait_for(lambda: toggle.status() is not None)
        assert (toggle.status() or "").startswith("recording 0:")
        toggle.on_result(found_in(frame_of(-1)))
        for number in range(10):
            pass_frame(toggle, frame_of(number))
        toggle.command(Command.RECORD)
        assert toggle.status() is None
        assert len(made) == count
    toggle.close()
    folders = recordings_in(tmp_path)
    assert len(folders) == 2
    for folder in folders:
        frames, error = read_all(folder)
        assert error is None
        assert len(frames) == 10


def test_ending_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    toggle = RecorderToggle(lambda: Recorder(tmp_path, header=HEADER, min_free=0), say=print)
    toggle.start()
    (recorder,) = [toggle._recorder]
    assert isinstance(recorder, Recorder)
    recorder._worker.put(lambda: go_on.wait(30) and None)
    began = time.monotonic()
    toggle.command(Command.RECORD)
    took = time.monotonic() - began
    assert recorder.status().startswith("recording")
    go_on.set()
    toggle.close()
    assert took < 20  # the disk took 30
    assert recorder.status().startswith("recorded")


def test_a_recording_that_cannot_start_is_reported_and_the_run_continues(tmp_path: Path) -> None:
    said: list[str] = []

    def make() -> Recorder:
        raise SinkError("no room; make some")

    toggle = RecorderToggle(make, say=said.append)
    toggle.command(Command.RECORD)
    wait_for(lambda: bool(said))
    assert said == ["cannot record: no room; make some"]
    assert toggle.status() is None
    toggle.close()
    with pytest.raises(SinkError):
        toggle.start()


def test_a_recording_that_starts_after_the_end_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("streamseg.recording.switch.START_S", 0.05)
    made: list[Recorder] = []

    def make() -> Recorder:
        go_on.wait(30)
        made.append(Recorder(tmp_path, header=HEADER, min_free=0))
        return made[-1]

    toggle = RecorderToggle(make, say=print)
    toggle.command(Command.RECORD)
    toggle.command(Command.RECORD)  # impatient: the first is still being begun
    toggle.close()
    go_on.set()
    wait_for(lambda: bool(made) and made[0].status().startswith("recorded"))
    assert len(made) == 1


def test_commands_that_say_what_they_want_are_obeyed_once(tmp_path: Path) -> None:
    toggle = RecorderToggle(lambda: Recorder(tmp_path, header=HEADER, min_free=0), say=print)
    toggle.command(Command.STOP_RECORDING)
    for _ in range(5):  # two pages, both impatient
        toggle.command(Command.START_RECORDING)
    wait_for(lambda: toggle.status() is not None)
    toggle.command(Command.START_RECORDING)
    assert (toggle.status() or "").startswith("recording 0:")
    for _ in range(3):
        toggle.command(Command.STOP_RECORDING)
    assert toggle.status() is None
    toggle.close()
    assert len(recordings_in(tmp_path)) == 1


def test_recordings_cannot_be_started_without_end(tmp_path: Path) -> None:
    said: list[str] = []
    now = 1000.0
    toggle = RecorderToggle(
        lambda: Recorder(tmp_path, header=HEADER, min_free=0), say=said.append, clock=lambda: now
    )

    def press() -> bool:
        """Start and end one recording; False if it was refused."""
        toggle.command(Command.RECORD)
        wait_for(lambda: toggle.status() is not None)
        started = (toggle.status() or "").startswith("recording")
        if started:
            toggle.command(Command.RECORD)
        return started

    assert [press() for _ in range(100)] == [True] * 3 + [False] * 97
    assert said == ["cannot record: 3 were started in 30 s; next one in 30 s"]
    assert toggle.status() == "no recording: 3 were started in 30 s; next one in 30 s"
    now += 6
    assert toggle.status() is None
    assert not press()
    assert len(said) == 2
    now += 25
    assert press()
    toggle.close()
    assert len(list(tmp_path.iterdir())) == 4


def test_pressed_after_an_error_it_starts_another(tmp_path: Path) -> None:
    toggle = RecorderToggle(lambda: Recorder(tmp_path, header=HEADER, min_free=0), say=print)
    toggle.start()
    stopped = toggle._recorder
    assert isinstance(stopped, Recorder)
    stopped._stop("disk full")
    assert toggle.status() == "recording stopped: disk full"
    toggle.command(Command.STOP_RECORDING)
    assert toggle.status() == "recording stopped: disk full"
    toggle.command(Command.RECORD)
    wait_for(lambda: (toggle.status() or "").startswith("recording 0:"))
    toggle.close()
    assert len(list(tmp_path.iterdir())) == 2
