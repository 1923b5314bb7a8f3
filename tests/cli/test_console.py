"""Messages, JSON, progress and stopping on signals."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from streamseg.cli import console
from streamseg.cli.console import Progress, print_json, stop_on_signals


def test_json_is_one_strict_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": {"c": [1.5, float("inf")]}, "µ": "line\nbreak"})
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert "NaN" not in out
    assert json.loads(out) == {"a": None, "b": {"c": [1.5, None]}, "µ": "line\nbreak"}


SIGNALLED = """
import os, signal, sys
from streamseg.cli.console import stop_on_signals
number = int(sys.argv[1])
before = signal.getsignal(number)
with stop_on_signals() as stop:
    assert not stop and stop.exit_code == 0
    os.kill(os.getpid(), number)
    assert stop.event.wait(5)
    print(stop.exit_code, stop.cause)
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        print("out")
assert signal.getsignal(number) is before
"""


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "130 Ctrl-C\nout\n"), (signal.SIGTERM, "143 SIGTERM\nout\n")]
)
def test_the_first_signal_sets_the_event_and_the_second_interrupts(number: signal.Signals, said: str) -> None:
    # In a process of its own: libraries that other tests load may have touched how signals arrive.
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_another_hang_up_does_not_interrupt_what_the_first_one_has_finished() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(signal.SIGHUP))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "129 SIGHUP\n"), done.stderr


def test_under_nohup_a_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


class Broken(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        self.write("")


@pytest.mark.parametrize("what", ["broken", "closed", "none"])
def test_messages_that_cannot_be_written_are_lost_and_end_nothing(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Broken() if what == "broken" else io.StringIO()
    if what == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", None if what == "none" else stream)
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.0)
    console.say("hello")
    with Progress("clip.mp4", 3) as progress:
        progress.advance()
        progress.say("so far")
    console.stderr_console().print("a table")
    with console.forgiving_stderr():
        print("from a library", file=sys.stderr, flush=True)


def test_a_progress_bar_on_a_terminal_that_is_closed_ends_nothing() -> None:
    code = """
import os, pty, sys, time
from streamseg.cli.console import Progress, forgiving_stderr, say
parent, child = pty.openpty()
os.dup2(child, 2)
os.close(child)
os.environ["TERM"] = "xterm"
with forgiving_stderr(), Progress("clip", 100) as progress:
    for k in range(100):
        progress.advance()
        if k == 20:
            os.close(parent)
        time.sleep(0.005)
    progress.say("end")
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_off_the_main_thread_no_handler_is_touched() -> None:
    seen = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert seen == [False]


def test_progress_without_a_terminal_is_a_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with Progress("clip.mp4", 40) as progress:
        for _ in range(20):
            now += 0.5
            progress.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "clip.mp4: 10/40 frames, 2.0 frames/s, 15 s left",
        "clip.mp4: 20/40 frames, 2.0 frames/s, 10 s left",
    ]


def test_progress_of_unknown_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.0)
    with Progress("data", None, "images") as progress:
        progress.advance()
    assert capsys.readouterr().err.startswith("data: 1 images, ")


def test_work_of_an_interrupted_run_does_not_count_for_the_rate(capsys, monkeypatch):
    now = iter([0.0, 0.0, 100.0, 110.0])
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr("streamseg.cli.console.time", clock)
    with Progress("net", None, "steps") as progress:
        progress.start_from(150, 200)
        progress.advance_to(160, "loss 0.5000")
    assert capsys.readouterr().err == "net: 160/200 steps, 1.0 steps/s, 40 s left  loss 0.5000\n"
