"""Paced recordings: frames at their own times, with their true age."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Self

import numpy as np
import pytest

from streamseg.capture import open_source
from streamseg.capture.paced import PacedSource
from streamseg.capture.recording.reader import Offered
from streamseg.core.errors import SourceCut
from streamseg.core.types import Frame, Source, SourceInfo

MS = 1_000_000


class Tape:
    """A recording with these times; ``slow`` gives seconds to decode by frame."""

    live = False

    def __init__(
        self,
        times: Sequence[float | None],
        *,
        rate: Fraction | None = None,
        slow: dict[int, float] | None = None,
        cut: bool = False,
    ) -> None:
        self.info = SourceInfo("tape", 4, 4, rate=rate)
        self.closed = threading.Event()
        self.decoded: list[int] = []
        self._times, self._slow, self._cut = times, slow or {}, cut

    def __iter__(self) -> Iterator[Frame]:
        for index, moment in enumerate(self._times):
            time.sleep(self._slow.get(index, 0))
            self.decoded.append(time.monotonic_ns())
            yield Frame(np.full((4, 4), index, np.uint8), index, self.decoded[-1], pts_seconds=moment)
        if self._cut:
            raise SourceCut("tape ends in the middle")

    def close(self) -> None:
        self.closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def offered(source: PacedSource) -> tuple[list[Frame], list[int]]:
    """All frames, and when each came."""
    frames, moments = [], []
    for frame in source:
        moments.append(time.monotonic_ns())
        frames.append(frame)
    return frames, moments


def check(source: PacedSource, due_ms: list[float]) -> list[Frame]:
    """Every frame comes, none before it is due, and says when it was due or decoded."""
    frames, moments = offered(source)
    assert [frame.index for frame in frames] == list(range(len(due_ms)))
    start = frames[0].captured_ns
    for frame, moment, due in zip(frames, moments, due_ms, strict=True):
        assert moment >= start + due * MS - 1
        assert start + due * MS - 1 <= frame.captured_ns <= moment
    assert source.late_ns >= 0
    return frames


def test_frames_are_spaced_by_their_times() -> None:
    source = PacedSource(Tape([7.0, 7.02, 7.1, 7.1, 7.15]))
    assert isinstance(source, Source)
    assert source.live
    frames = check(source, [0, 20, 100, 100, 150])
    assert [frame.pts_seconds for frame in frames] == [7.0, 7.02, 7.1, 7.1, 7.15]


def test_frames_without_times_follow_the_rate_or_25() -> None:
    check(PacedSource(Tape([None] * 4, rate=Fraction(100))), [0, 10, 20, 30])
    check(PacedSource(Tape([None] * 3)), [0, 40, 80])


def test_decreasing_times_do_not_wait() -> None:
    check(PacedSource(Tape([1.0, 1.05, 0.0, 0.05])), [0, 50, 50, 100])


def test_arrivals_of_an_earlier_run_can_be_the_schedule() -> None:
    arrivals = [5_000 * MS, 5_003 * MS, 5_050 * MS]
    check(PacedSource(Tape([0.0, 9.0, 18.0], rate=Fraction(50)), arrivals_ns=arrivals), [0, 3, 50])
    check(PacedSource(Tape([0.0, 9.0, 18.0], rate=Fraction(50)), arrivals_ns=arrivals[:2]), [0, 3, 23])


def test_decoding_ahead_does_not_make_a_frame_old() -> None:
    """It was decoded long before it is due, and is as recent as one that a grabber takes then."""

    def ahead(tape: Tape) -> bool:
        frames, _ = offered(PacedSource(tape))
        apart = frames[1].captured_ns - frames[0].captured_ns
        assert apart >= 200 * MS
        return apart == 200 * MS and tape.decoded[1] < frames[1].captured_ns

    # A machine that pauses just then decodes the frame when it is due.
    assert any(ahead(Tape([0.0, 0.2])) for _ in range(20))


def test_a_frame_decoded_late_is_dated_from_its_decoding() -> None:
    tape = Tape([0.0, 0.01, 0.02], slow={1: 0.2})
    source = PacedSource(tape)
    frames, moments = offered(source)
    for frame, moment, decoded in list(zip(frames, moments, tape.decoded, strict=True))[1:]:
        assert decoded <= frame.captured_ns <= moment
    assert source.late_ns > 100 * MS


def test_waiting_for_the_consumer_makes_a_frame_old() -> None:

    def waited() -> bool:
        source = PacedSource(Tape([0.0, 0.05, 0.1]))
        first = next(source)
        time.sleep(0.2)
        second = next(source)
        assert source.late_ns > 100 * MS
        return second.captured_ns == first.captured_ns + 50 * MS

    # A machine that pauses just then decodes the frame after it was due.
    assert any(waited() for _ in range(20))


def test_errors_come_after_the_frames_before_them() -> None:
    tape = Tape([0.0, 0.01], cut=True)
    source = PacedSource(tape)
    assert [next(source).index, next(source).index] == [0, 1]
    with pytest.raises(SourceCut, match="in the middle"):
        next(source)
    with pytest.raises(StopIteration):
        next(source)
    assert tape.closed.wait(30)


@pytest.mark.parametrize("times", [[0.0, 3600.0], [None] * 100000])
def test_close_ends_a_wait(times: list[float | None]) -> None:
    tape = Tape(times)
    source = PacedSource(tape)
    ended = threading.Event()

    def read_on() -> None:
        list(source)
        ended.set()

    threading.Thread(target=read_on, daemon=True).start()
    time.sleep(0.1)
    source.close()
    source.close()
    assert ended.wait(30)
    assert tape.closed.wait(30)
    assert list(source) == []


def test_close_before_the_first_frame_and_while_the_source_hangs() -> None:
    tape = Tape([0.0])
    with PacedSource(tape) as source:
        pass
    assert tape.closed.is_set()
    assert list(source) == []
    hangs, released = threading.Event(), threading.Event()

    class Hanging(Tape):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                yield frame
                hangs.set()
                assert released.wait(60)

    hanging = Hanging([0.0, 0.0])
    source = PacedSource(hanging)
    next(source)
    assert hangs.wait(30)
    source.close()
    assert not hanging.closed.is_set(), "nobody waited for it"
    released.set()
    assert hanging.closed.wait(30)


def test_phantom_is_paced_at_its_rate() -> None:
    source = PacedSource(open_source("phantom:?seed=1&frames=12&fps=60&size=96x64"))
    check(source, [index * 1000 / 60 for index in range(12)])


def test_frames_are_as_late_as_they_were() -> None:
    moments = [
        Offered(k, captured_ns=k * 10**7, arrived_ns=k * 10**7 + k * 10**8, video=None) for k in range(3)
    ]
    source = PacedSource(Tape([0.0, 9.0, 18.0]), moments=lambda frame: moments[frame.index])
    delivered = [(frame, time.monotonic_ns()) for frame in source]
    ages = [at - frame.captured_ns for frame, at in delivered]
    for age, late in zip(ages, (0, 10**8, 2 * 10**8), strict=True):
        assert late <= age < late + 5 * 10**7
    apart = [b[1] - a[1] for a, b in pairwise(delivered)]
    assert apart == [pytest.approx(1.1e8, abs=5e7)] * 2
