"""Shared by all commands: messages, JSON, progress, stopping on signals, limits on threads and heaps."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from streamseg.core.files import finite
from streamseg.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_STDERR = 2
_M_ARENA_MAX = -8
"""Number of glibc's mallopt for the limit on arenas."""
LOG_EVERY_S = 5.0
"""Interval of progress lines if stderr is not a terminal."""


class ForgivingStream:
    """A text stream for messages, most often stderr, that drops what cannot be written instead of raising.

    A closed terminal, a full disk or a reader that left must not end the guidance, nor a replay.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        """None if the stream was closed before the program began."""
        self.failed = False
        """Whether something was lost."""

    def write(self, text: str) -> int:
        with self._forgiving():
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._forgiving():
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: it was closed
            self.failed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def forgiving_stderr() -> Iterator[None]:
    """Make failures to write to stderr harmless, whoever writes: us, a library, or a thread that fails."""
    stderr = sys.stderr
    forgiving = ForgivingStream(stderr)
    sys.stderr = cast(TextIO, forgiving)
    try:
        yield
    finally:
        if cast(object, sys.stderr) is forgiving:
            sys.stderr = stderr
        if forgiving.failed and stderr is sys.__stderr__:
            # Python flushes stderr once more on exit, and reports a failure as exit code 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)


def say(message: str) -> None:
    """Print a message on stderr, without escape sequences and logins. Never raises: a message may be lost."""
    stderr = ForgivingStream(sys.stderr)  # print would use stdout instead of None
    print(printable(message), file=stderr, flush=True)


def put(line: str) -> None:
    """Print human-readable output on stdout, without escape sequences and logins."""
    print(printable(line))


def put_path(path: object) -> None:
    """Print the path of a result on stdout: exactly for a program, printable on a terminal."""
    print(printable(path) if sys.stdout.isatty() else path)


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object on one line of stdout, as strict JSON in ASCII; NaN and infinity become null."""
    # ASCII, because the terminal's encoding need not hold every file name.
    print(json.dumps(finite(value), allow_nan=False), flush=True)


def table_text(text: object) -> str:
    """Text for a cell or title of a rich table: printable, and its brackets are no markup."""
    from rich.markup import escape

    return escape(printable(text))


class Stop:
    """Whether the user asked to stop, and how."""

    def __init__(self) -> None:
        self.event = threading.Event()
        """Set by Ctrl-C, SIGTERM, or SIGHUP of a terminal that was closed."""
        self.signal: signal.Signals | None = None
        """The first signal."""

    def __bool__(self) -> bool:
        return self.event.is_set()

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; 0 without one."""
        return 128 + self.signal if self.signal else 0

    @property
    def cause(self) -> str:
        """Name of the signal for messages."""
        return "" if self.signal is None else cause_of(self.signal)


class Interrupted(KeyboardInterrupt):
    """A second signal, which ends the program without finishing what it does."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.signal = number


def cause_of(number: signal.Signals) -> str:
    """The name of a signal for messages."""
    return "Ctrl-C" if number == signal.SIGINT else number.name


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Make the first Ctrl-C, SIGTERM or SIGHUP within the block only set the event, so files can be finished.

    Another Ctrl-C or SIGTERM raises Interrupted. Another SIGHUP does not, because kernel and shell both send
    one when a terminal is closed; where SIGHUP is ignored (nohup), it stays so. Only the main thread can set
    handlers; from any other thread the event is never set.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _: object) -> None:
        if stop and number != signal.SIGHUP:
            raise Interrupted(signal.Signals(number))
        stop.signal = stop.signal or signal.Signals(number)
        stop.event.set()

    numbers = [signal.SIGINT, signal.SIGTERM, *hang_up()]
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def hang_up() -> list[signal.Signals]:
    """SIGHUP, unless it is ignored, as under nohup."""
    return [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]


class Progress:
    """Shows progress on stderr with rate and time left: a bar on a terminal, else a line every few seconds.

    Use it as a context manager and call :meth:`advance` from one thread.
    """

    def __init__(self, what: str, total: int | None, unit: str = "frames", *, done: int = 0) -> None:
        """``done`` were finished by an earlier, interrupted run; they do not count for the rate."""
        self._what, self._total, self._unit = printable(what), total, unit
        self._done = self._before = done
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        console = stderr_console()
        if console.is_terminal:
            from rich import progress as rich

            self._bar = rich.Progress(
                rich.TextColumn("{task.description}", markup=False),
                rich.BarColumn(),
                rich.MofNCompleteColumn(),
                rich.TextColumn("{task.fields[rate]}"),
                rich.TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(self._what, total=self._total, rate="")
            self._bar.start()
        self._start = self._said = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start_from(self, done: int, total: int) -> None:
        """Set that ``done`` of ``total`` were finished earlier; they do not count for the rate."""
        self._total, self._done, self._before = total, done, done
        self._start = self._said = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done)

    def advance(self) -> None:
        """Count one more as done."""
        self.advance_to(self._done + 1)

    def advance_to(self, done: int, note: str = "") -> None:
        """Set the number that is done; ``note`` is shown next to it."""
        self._done = done
        now = time.monotonic()
        if self._bar is not None:
            rate = f"{self._rate(now):.1f} {self._unit}/s"
            self._bar.update(self._task, completed=done, rate=f"{printable(note)}  {rate}" if note else rate)
        elif now - self._said >= LOG_EVERY_S:
            self._said = now
            say(self._line(now) + (f"  {note}" if note else ""))

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(printable(message), markup=False)
        else:
            say(message)

    def _rate(self, now: float) -> float:
        return (self._done - self._before) / max(now - self._start, 1e-9)

    def _line(self, now: float) -> str:
        rate = self._rate(now)
        of = f"/{self._total}" if self._total else ""
        known = self._total and self._done > self._before  # without a rate there is no telling
        left = f", {max((self._total or 0) - self._done, 0) / max(rate, 1e-9):.0f} s left" if known else ""
        return f"{self._what}: {self._done}{of} {self._unit}, {rate:.1f} {self._unit}/s{left}"


def stderr_console() -> Console:
    """A rich console on stderr; plain text if that is not a terminal."""
    from rich.console import Console

    stderr = ForgivingStream(sys.stderr)
    return Console(file=cast(TextIO, stderr), highlight=False, soft_wrap=not stderr.isatty())


def limit_opencv_threads() -> None:
    """Make OpenCV work in the calling thread, which leaves the cores to the net.

    Spreading a resize of half a millisecond over all cores makes the net's threads wait for each other: on
    two cores that cost the live loop 5 % of its rate, and 12 % with a window (docs/log.md).
    """
    import cv2

    cv2.setNumThreads(1)


def share_one_heap() -> None:
    """Make all threads that start from now on allocate from one heap, where the C library is glibc.

    By default glibc gives each thread a heap of its own, up to eight per processor. Frames are allocated in
    one thread and freed in another, so every heap keeps holes of megabytes (docs/log.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has one heap and no mallopt
        mallopt(_M_ARENA_MAX, 1)
