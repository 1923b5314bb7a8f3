"""The newest frame of a source that may vanish."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Frame
from streamseg.live.frame_reader import LatestFrameReader, Phase, SourceStatus, worth_waiting_ns
from tests.fakes import Act, Script, ScriptedSource

FRAMES = [Act()] * 3


def until(condition, seconds: float = 60.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def test_the_newest_wins_and_nobody_gets_a_frame_twice() -> None:
    go_on = threading.Event()

    def hold(frame: Frame, at: int) -> None:
        if frame.index == 3:
            go_on.wait(60)

    reader = LatestFrameReader(Script([*FRAMES, Act(), Act()]), reconnect=False, on_frame=hold)
    reader.start()
    until(lambda: reader.offered >= 3)
    first = reader.take(1.0)
    assert first is not None
    assert first.index == 2
    assert reader.dropped == 2
    go_on.set()
    until(lambda: reader.over or reader.offered == 5)
    newest = reader.take(1.0)
    assert newest is not None
    assert newest.index == 4
    assert reader.take(0.0) is None
    assert reader.dropped == 3
    assert reader.over
    assert reader.status.phase is Phase.ENDED
    reader.close()


def test_a_frame_that_was_taken_can_be_exchanged_for_a_newer_one() -> None:
    reader = LatestFrameReader(Script([*FRAMES, Act(0.2), Act()]), reconnect=False)
    reader.start()
    until(lambda: reader.offered >= 3)
    first = reader.take(1.0)
    assert first is not None
    assert reader.newer(first) is first or reader.offered > 3
    until(lambda: reader.offered == 5)
    assert reader.newer(first).index == 4
    assert reader.dropped == 4
    reader.close()


def test_take_waits_no_longer_than_its_time_limit() -> None:
    reader = LatestFrameReader(Script([Act(5.0)]), reconnect=False)
    reader.start()
    assert reader.take(0.01) is None
    reader.close()


def test_a_lost_source_is_opened_again_and_counted() -> None:
    changes: list[SourceStatus] = []
    frames: list[Frame] = []
    script = Script([*FRAMES, Act(what="fail")], [Act(what="refuse")], [Act(shape=(48, 64)), Act(0.3)])
    reader = LatestFrameReader(
        script,
        reconnect=True,
        on_frame=lambda frame, at: frames.append(frame),
        on_change=lambda: changes.append(reader.status),
        retry_delays_s=(0.01, 0.02, 0.03),
    )
    reader.start()
    until(lambda: reader.offered >= 4)
    assert reader.status.reconnects == 1, "a refused attempt is no connection"
    reader.close()
    assert [frame.index for frame in frames[:4]] == [0, 1, 2, 3], "the count goes on"
    assert frames[3].image.shape == (48, 64)
    waits = [change for change in changes if change.phase is Phase.WAITING]
    assert waits[0].reason == "the cable was pulled; put it back"
    assert waits[1].reason == "connection refused; is the server on?"


def test_the_delays_grow_while_nothing_comes() -> None:
    waits: list[float] = []

    def note() -> None:
        if reader.status.phase is Phase.WAITING:
            waits.append((reader.status.retry_ns or 0) / 1e9 - time.monotonic())

    reader = LatestFrameReader(Script(), reconnect=True, on_change=note, retry_delays_s=(0.02, 0.06, 0.1))
    reader.start()
    until(lambda: len(waits) >= 2 and max(waits) > 0.06)  # what a busy machine reads late seems shorter
    reader.close()
    assert waits[0] <= 0.02
    assert waits[1] <= 0.06
    assert max(waits) <= 0.1


TROUBLE = [
    OSError(24, "Too many open files"),
    socket.gaierror(-2, "Name or service not known"),
    ValueError("Invalid IPv6 URL"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    IndexError("index out of range"),
    OverflowError("int too large"),
    RuntimeError("can't start new thread"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    UsageError("the device has no format 'nv12'; it has yuyv"),
    AttributeError("'NoneType' object has no attribute 'x'"),
    EOFError(),
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: type(trouble).__name__)
@pytest.mark.parametrize("when", ["opening", "reading", "closing"])
def test_whatever_a_live_source_raises_it_is_opened_again_and_the_reason_is_known(
    trouble: Exception, when: str
) -> None:
    reasons: list[str] = []
    script = Script([*FRAMES, *([Act(what="fail")] if when == "opening" else [])], [*FRAMES, Act(0.5)])
    failed = False

    def opener() -> ScriptedSource:
        nonlocal failed
        if when == "opening" and script.opened == 1 and not failed:
            failed = True
            raise trouble
        source = script()
        if script.opened == 1 and when != "opening":
            source.trouble = trouble
            source.trouble_in_close = when == "closing"
        return source

    def note() -> None:
        if reader.status.phase is Phase.WAITING:
            reasons.append(reader.status.reason)

    reader = LatestFrameReader(opener, reconnect=True, on_change=note, retry_delays_s=(0.01,))
    reader.start()
    until(lambda: reader.offered >= 6)
    reader.close()
    assert reader.error is None
    assert reader.status.reconnects == 1
    words = str(trouble).partition("] ")[2] or str(trouble) or type(trouble).__name__
    assert words in reasons[-1]
    assert "\n" not in reasons[-1]
    assert ("please report it" in reasons[-1]) == isinstance(trouble, AttributeError)


def test_a_fault_of_ours_before_the_first_frame_ends_the_reading_and_is_reported() -> None:
    def opener() -> ScriptedSource:
        raise TypeError("open_live() got an unexpected keyword argument")

    reader = LatestFrameReader(opener, reconnect=True)
    reader.start()
    until(lambda: reader.status.phase is Phase.FAILED)
    assert isinstance(reader.error, TypeError)
    reader.close()


def test_trouble_at_the_first_opening_is_tried_again() -> None:
    def opener() -> ScriptedSource:
        raise OSError(97, "Address family not supported by protocol")

    reader = LatestFrameReader(opener, reconnect=True, retry_delays_s=(0.01,))
    reader.start()
    until(lambda: reader.status.phase is Phase.WAITING)
    assert reader.status.reason == "Address family not supported by protocol"
    reader.close()


def test_what_a_source_waits_for_and_notices_is_in_its_status() -> None:
    script = Script([Act(), Act(0.05), Act(0.5)])
    seen: list[tuple[str, str]] = []

    def opener() -> ScriptedSource:
        reader.on_wait("waiting for a key frame")
        source = script()
        source.clock_note = "the sender's clock runs 1.2 times as fast as ours"
        return source

    reader = LatestFrameReader(
        opener,
        reconnect=True,
        on_change=lambda: seen.append((reader.status.awaited, reader.status.note)),
    )
    reader.start()
    until(lambda: reader.offered >= 2)
    reader.close()
    assert ("waiting for a key frame", "") in seen
    assert seen[-1] == ("", "the sender's clock runs 1.2 times as fast as ours")


def test_a_wrong_call_is_not_tried_again() -> None:
    def opener():
        raise UsageError("the device has no format 'nv12'; it has yuyv")

    reader = LatestFrameReader(opener, reconnect=True)
    reader.start()
    until(lambda: reader.status.phase is Phase.FAILED)
    assert isinstance(reader.error, UsageError)
    reader.close()


def test_the_damage_of_a_recording_comes_after_its_frames() -> None:
    reader = LatestFrameReader(Script([*FRAMES, Act(what="fail")]), reconnect=False)
    reader.start()
    until(lambda: reader.status.phase is Phase.FAILED)
    assert not reader.over, "a frame waits"
    assert reader.take(1.0) is not None
    assert reader.over
    assert isinstance(reader.error, SourceError)
    reader.close()


def test_an_exception_of_a_listener_ends_the_reading() -> None:
    def broken(frame: Frame, at: int) -> None:
        raise ValueError("no")

    reader = LatestFrameReader(Script(FRAMES), reconnect=True, on_frame=broken)
    reader.start()
    until(lambda: reader.status.phase is Phase.FAILED)
    assert isinstance(reader.error, ValueError)
    reader.close()


def test_closing_is_no_loss() -> None:
    phases: list[Phase] = []
    reader = LatestFrameReader(
        Script([Act(), Act(60.0)]), reconnect=True, on_change=lambda: phases.append(reader.status.phase)
    )
    reader.start()
    until(lambda: reader.offered == 1)
    reader.close()
    assert phases == [Phase.OPENING, Phase.OPEN]


@pytest.mark.parametrize("act", [Act(60.0), Act(what="hang")])
def test_closing_does_not_wait_for_a_source_that_hangs(act: Act) -> None:
    reader = LatestFrameReader(Script([Act(), act]), reconnect=True)
    reader.start()
    until(lambda: reader.offered == 1)
    closed = threading.Event()

    def close() -> None:
        reader.close()
        closed.set()

    threading.Thread(target=close, daemon=True).start()
    assert closed.wait(10.0)


MS = 1_000_000


@pytest.mark.parametrize(
    ("age_ms", "interval_ms", "waits"),
    [
        (0, 33, False),
        (20, 33, False),
        (26, 33, True),
        (32, 33, True),
        (33, 33, False),
        (40, 33, False),  # it is overdue: who knows when it comes
        (15, 16, False),  # a fast source
        (0, 0, False),
    ],
)
def test_a_frame_that_is_about_to_come_is_waited_for(age_ms: int, interval_ms: int, waits: bool) -> None:
    rest = worth_waiting_ns(age_ms * MS, interval_ms * MS)
    assert (rest > 0) == waits
    assert rest <= (interval_ms / 4 + interval_ms / 16) * MS


class SimulatedArrivals(threading.Condition):
    """Frames that come every 60 ms of a simulated clock, on which a busy machine has no influence."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = self.next_ns = 60 * MS
        self.put: Callable[[Frame], None] = lambda frame: None

    def monotonic_ns(self) -> int:
        return self.now_ns

    def advance(self, until_ns: int) -> None:
        while self.next_ns <= until_ns:
            self.now_ns = self.next_ns
            self.next_ns += 60 * MS
            self.put(Frame(np.zeros((4, 4), np.uint8), 0, self.now_ns))
        self.now_ns = until_ns

    def wait(self, timeout: float | None = None) -> bool:
        end_ns = self.now_ns + round((timeout or 0.0) * 1e9)
        arrives = self.next_ns <= end_ns
        self.advance(self.next_ns if arrives else end_ns)
        return arrives


def test_a_net_that_takes_two_intervals_gets_fresh_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = SimulatedArrivals()
    reader = LatestFrameReader(Script([]), reconnect=False)
    monkeypatch.setattr(reader, "_changed", arrivals)
    monkeypatch.setattr("streamseg.live.frame_reader.time", arrivals)
    arrivals.put = reader._put
    ages: list[float] = []
    for _ in range(20):
        if (frame := reader.take(0.5)) is not None:
            ages.append((arrivals.now_ns - frame.captured_ns) / MS)
            arrivals.advance(arrivals.now_ns + 115 * MS)
    assert max(ages[-6:]) < 15, "once in step it stays so"
