"""Reads the newest frame of a source that may vanish: one reader thread, one slot, counted overwrites.

The reader always drains the source, so that no frame grows old in a queue. A consumer that is slower than the
source misses frames, and never gets a frame twice. A live source that cannot be opened or stops is opened
again, after delays that grow along :data:`RETRY_DELAYS_S` and start over after a good run. That holds
whatever it raises: too many open files, no route, a wrong address that the server sent. Only a wrong
call at the first opening ends the reading, or a fault of ours: in a listener, or before the first frame.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from streamseg.core.errors import StreamsegError, UsageError, one_line
from streamseg.core.types import Frame, Source

RETRY_DELAYS_S = (0.2, 0.5, 1.0)
"""Seconds before the first, second, ... attempt to open a lost source again; the last one repeats. It stays
short: somebody with a needle waits for the image."""
GOOD_RUN_S = 3.0
"""After a loss, the delays start over if the source had delivered frames for this time."""
LAST_PART = 0.25
"""Share of the interval between two frames: a frame that is due within it is worth waiting for, because it is
fresher by three times as much as the wait may cost."""
SLOW_NS = 25_000_000
"""Sources with a shorter interval between frames have fresh frames anyway."""
OUR_FAULTS = (AssertionError, AttributeError, NameError, NotImplementedError, TypeError)
"""Exceptions that no device, server or file causes, but a mistake in the program."""
CLOSE_S = 1.0
"""How long closing waits for the reader; one that hangs is abandoned."""

OnFrame = Callable[[Frame, int], None]


class Phase(StrEnum):
    """The state of the connection to a source."""

    OPENING = "opening"
    OPEN = "open"
    WAITING = "waiting"
    """Lost; the next attempt is scheduled."""
    ENDED = "ended"
    """A recorded source was read to its end."""
    FAILED = "failed"
    """It will not be opened again."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The connection to a source, as far as it is known."""

    phase: Phase = Phase.OPENING
    reason: str = ""
    """One line that says why it is not open."""
    retry_ns: int | None = None
    """Monotonic time of the next attempt, while waiting."""
    reconnects: int = 0
    """Times that it was opened again after it had delivered frames."""
    name: str = ""
    """The source's own name; empty before it was opened."""
    clock: str = "arrival"
    """What the frames' ``captured_ns`` is: ``driver`` or ``arrival``."""
    awaited: str = ""
    """What a source that is alive waits for before it can give frames, one line; empty if for nothing."""
    awaited_ns: int = 0
    """When it said so last: monotonic nanoseconds."""
    note: str = ""
    """What was noticed about the sender's clock, one line."""


class LatestFrameReader:
    """Reads a source in a thread of its own and keeps its newest frame. All methods are thread-safe."""

    def __init__(
        self,
        opener: Callable[[], Source],
        *,
        reconnect: bool,
        prepare: Callable[[Frame], Frame] = lambda frame: frame,
        on_frame: OnFrame = lambda frame, arrived_ns: None,
        on_change: Callable[[], None] = lambda: None,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
    ) -> None:
        """``reconnect``: open the source again when it cannot be opened, fails or ends.

        ``prepare`` may add to a frame by replacing it; ``on_frame`` gets every frame and its arrival;
        ``on_change`` is called after the status changed. All run in the reader's thread; what they raise ends
        the reading, as :attr:`error`.
        """
        self.error: BaseException | None = None
        """The cause of the end of the reading, if it was an error."""
        self.offered = 0
        """Frames that the source delivered; also the index of the next one."""
        self.dropped = 0
        """Frames that a newer one replaced before they were taken."""
        self._opener, self._reconnect, self._delays_s = opener, reconnect, retry_delays_s
        self._prepare, self._on_frame, self._on_change = prepare, on_frame, on_change
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._status = SourceStatus()
        self._slot: Frame | None = None
        self._arrived_ns = self._interval_ns = 0
        self._source: Source | None = None
        self._delivered_before = self._opened_before = False
        self._thread = threading.Thread(target=self._run, name="streamseg-read", daemon=True)

    @property
    def status(self) -> SourceStatus:
        return self._status

    @property
    def over(self) -> bool:
        """Whether no frame waits and none will come."""
        with self._changed:
            return self._slot is None and self._status.phase in (Phase.ENDED, Phase.FAILED)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet; None if none came within the time.

        Waits a little for the next one if it is about to arrive: otherwise a net that needs two intervals
        would always get frames that are one interval old.
        """
        with self._changed:
            if self._slot is None:
                self._changed.wait(timeout_s)
            elif rest_ns := worth_waiting_ns(time.monotonic_ns() - self._arrived_ns, self._interval_ns):
                self._changed.wait(min(timeout_s, rest_ns / 1e9))
            frame, self._slot = self._slot, None
            return frame

    def newer(self, frame: Frame) -> Frame:
        """The newest frame, in place of a taken one that is then dropped; that one if none came since."""
        with self._changed:
            if self._slot is not None:
                frame, self._slot = self._slot, None
                self.dropped += 1
            return frame

    def close(self) -> None:
        """Stop reading and release the source; a reader that hangs in it is abandoned."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        source = self._source
        if source is not None:
            # A source may take its lock while it reads: closing must not wait for a read that hangs.
            closer = threading.Thread(target=_close, args=(source,), name="streamseg-close", daemon=True)
            closer.start()
            closer.join(CLOSE_S)
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        attempt = 0
        try:
            while not self._stop.is_set():
                delivering, reason = self._read_once()
                if self._stop.is_set():
                    return
                if not self._reconnect:
                    self._set(phase=Phase.ENDED)
                    return
                attempt = 0 if delivering >= GOOD_RUN_S else attempt
                wait_s = self._delays_s[min(attempt, len(self._delays_s) - 1)]
                attempt += 1
                self._set(
                    phase=Phase.WAITING,
                    reason=reason,
                    retry_ns=time.monotonic_ns() + round(wait_s * 1e9),
                )
                self._stop.wait(wait_s)
        except BaseException as error:  # for the loop, which reports it
            self.error = error
            self._set(phase=Phase.FAILED, reason=str(error))

    def _read_once(self) -> tuple[float, str]:
        """Open and read until it breaks; the seconds for which frames came, and why no more do."""
        self._set(phase=Phase.OPENING, retry_ns=None)
        started = last = time.monotonic()
        try:
            with contextlib.closing(self._opener()) as source:
                self._source = source
                with _ours():
                    self._opened(source)
                for frame in source:
                    if self._stop.is_set():
                        break
                    with _ours():
                        self._put(frame)
                        self._take_news(source)
                    last = time.monotonic()
        except _ListenerError as failed:
            raise failed.error from None
        except Exception as error:
            if not self._reconnect or self._ends_reading(error):
                raise
            return last - started, _reason(error)
        finally:
            self._source = None
        return last - started, "the stream ended"

    def _ends_reading(self, error: Exception) -> bool:
        """Whether an error of a live source is one that reopening it cannot cure."""
        if isinstance(error, UsageError):
            return not self._opened_before  # a wrong call; later the device or the server has changed
        return isinstance(error, OUR_FAULTS) and self.offered == 0

    def _opened(self, source: Source) -> None:
        again = self._status.reconnects + self._delivered_before
        info = source.info
        self._opened_before = True
        self._set(phase=Phase.OPEN, reason="", reconnects=again, name=info.name, clock=info.clock, awaited="")
        self._delivered_before = False

    def on_wait(self, awaited: str) -> None:
        """The source that is being opened or read is alive, but waits for something, such as a key frame."""
        self._set(awaited=awaited, awaited_ns=time.monotonic_ns())

    def _take_news(self, source: Source) -> None:
        """Update the status with what a source reveals with its frames."""
        status, note = self._status, getattr(source, "clock_note", "")
        clock = source.info.clock  # some drivers reveal it with the first frame
        if clock != status.clock or status.awaited or (note and note != status.note):
            self._set(clock=clock, awaited="", note=note or status.note)

    def _put(self, frame: Frame) -> None:
        arrived_ns = time.monotonic_ns()
        frame = self._prepare(replace(frame, index=self.offered))
        self._delivered_before = True
        self._on_frame(frame, arrived_ns)
        with self._changed:
            interval_ns = arrived_ns - self._arrived_ns
            # Smoothed: one frame that came early must not plan a wait.
            self._interval_ns += round(0.2 * (min(interval_ns, 10 * SLOW_NS) - self._interval_ns))
            self._arrived_ns = arrived_ns
            self.offered += 1
            self.dropped += self._slot is not None
            self._slot = frame
            self._changed.notify_all()

    def _set(self, **changes: object) -> None:
        with self._changed:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
            self._changed.notify_all()
        self._on_change()


def worth_waiting_ns(age_ns: int, interval_ns: int) -> int:
    """How long to wait for the next frame if the newest arrived ``age_ns`` ago; 0: take that one."""
    rest_ns = interval_ns - age_ns
    if interval_ns < SLOW_NS or not 0 < rest_ns <= LAST_PART * interval_ns:
        return 0
    return rest_ns + round(LAST_PART * interval_ns / 4)  # frames come a little late as often as early


class _ListenerError(Exception):
    """Carries what a listener raised past the handling of the source's own errors."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _ListenerError(error) from error


def _reason(error: Exception) -> str:
    """Why a source was lost, on one line."""
    if isinstance(error, StreamsegError | OSError):
        return one_line(error)
    what = f"unexpected {type(error).__name__}: {one_line(str(error))}".removesuffix(": ")
    return f"{what}; please report it" if isinstance(error, OUR_FAULTS) else what


def _close(source: Source) -> None:
    with contextlib.suppress(Exception):
        source.close()
