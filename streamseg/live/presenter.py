"""Decides what is shown at a moment. No other place does, so that its rules can be read and tested in one.

1. An outline is shown on the frame that it was computed from and on no other.
2. From ``captured_ns + budget`` on it is not shown. Instead, the newest frame is shown without an outline,
   and the state says why: LAGGING if the segmentation is behind, SLOW if the next frame has yet to come,
   SOURCE_LOST without frames.
3. While nothing is known to be live (FROZEN, SOURCE_LOST, STARTING) there is no outline at all, and none of
   an earlier frame comes back afterwards.
4. The state does not change with every frame. LAGGING ends only with an outline that has some of its life
   left. Where outlines cannot follow one another without gaps, the state is the same with them and between
   them: SLOW if it is the source that is slow; LAGGING, after it has ended several times, if it is the net.
5. Time never runs backwards on the display, except for one step from a frame without an outline to an
   outline, and then by less than the budget.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass

from streamseg.core.types import Frame, Result, Roi, State
from streamseg.core.view import Figures, View
from streamseg.live.frame_reader import Phase, SourceStatus

RETURN_SHARE = 0.8
"""Share of the budget by which an outline ends LAGGING."""
CALM_SHARE = 0.9
"""Share of the budget within which the next outline must be expected for SLOW to end."""
RETURNS, RETURNS_WITHIN_NS = 3, 3_000_000_000
"""Ends of LAGGING within a time after which it stays until outlines follow one another without gaps."""
TICK_NS = 100_000_000
"""Texts that hold a duration change no more often than this."""
FROZEN_AFTER_NS = 1_000_000_000
"""An image that has not changed for this time is that of a frozen scanner."""
FIRST_OUTLINE_NS = 5_000_000_000
"""A net without a result after this time is not starting, it lags."""
FIRST_SILENCE_NS = 1_500_000_000
"""A source whose pace is not known yet may be silent for this time: its outlines expire long before."""
AWAITED_NS = 3_000_000_000
"""A source that waits for something says so about once a second."""
MAX_INTERVAL_NS = 1_000_000_000
"""No source is slower: a silence of three times this interval is never normal."""


@dataclass(frozen=True, slots=True)
class _Decision:
    state: State
    reason: str = ""
    frame: Frame | None = None
    roi: Roi | None = None
    result: Result | None = None


class Presenter:
    """Collects events from several threads and gives the display's thread its views. All times are ns."""

    def __init__(self, budget_ns: int) -> None:
        self.budget_ns = budget_ns
        self._changed = threading.Condition()
        self._news = 0
        self._newest: Frame | None = None
        self._newest_roi: Roi | None = None
        self._arrived_ns = self._alive_ns = 0
        self._arrivals: deque[int] = deque(maxlen=16)
        self._frozen_since_ns: int | None = None
        self._alive_from = 0
        """Index of the first frame since the source came back, or what it shows began to change again."""
        self._searching = ""
        self._result: Result | None = None
        self._status = SourceStatus()
        self._lagging = self._slow = self._restless = False
        self._returns: deque[int] = deque(maxlen=RETURNS)
        """When LAGGING ended the last times."""
        self._ages: deque[int] = deque(maxlen=8)
        """Ages of the newest results when they came."""
        self._result_times: deque[int] = deque(maxlen=8)
        """When the newest results came."""
        self._figures = Figures()
        self._view = View(0, 0, State.STARTING)

    # Called by the reader and the segmentation.

    def on_frame(self, frame: Frame, roi: Roi | None, arrived_ns: int, *, frozen: bool) -> None:
        """A frame arrived; ``roi`` if it is known; ``frozen``: its content has not changed for a while."""
        with self._changed:
            back = self._newest is not None and self._lost(arrived_ns) is not None
            if back:
                self._alive_from, self._alive_ns = frame.index, arrived_ns
                if arrived_ns - self._arrived_ns > 3 * MAX_INTERVAL_NS:
                    self._arrivals.clear()  # after a shorter one: some sources are as slow as that
            self._newest, self._newest_roi, self._arrived_ns = frame, roi, arrived_ns
            self._alive_ns = self._alive_ns or arrived_ns
            self._arrivals.append(arrived_ns)
            if frozen:
                self._frozen_since_ns = self._frozen_since_ns or arrived_ns - FROZEN_AFTER_NS
                self._alive_from, self._alive_ns = frame.index + 1, arrived_ns
            else:
                self._frozen_since_ns = None
            # Another frame changes nothing while an outline is displayed: that ends by the clock or the next
            # outline, and to wake for each frame would cost several streams some of their rate.
            if back or frozen or self._view.segmentation is None:
                self._wake()

    def on_result(self, result: Result) -> None:
        """A newer frame than any before was segmented."""
        with self._changed:
            self._result = result
            self._ages.append(result.age_ns)
            self._result_times.append(result.frame.captured_ns + result.age_ns)
            if result.frame.index >= self._alive_from:
                self._searching = ""
            self._wake()

    def on_search(self, progress: str, index: int = 0) -> None:
        """The image is being searched for in the frame of this index; no older outline is shown."""
        with self._changed:
            self._searching = progress
            self._alive_from = max(self._alive_from, index)
            self._wake()

    def on_source_change(self, status: SourceStatus) -> None:
        """The connection to the source changed."""
        with self._changed:
            if status.phase not in (Phase.OPEN, Phase.ENDED):
                self._arrivals.clear()
                if self._newest is not None:
                    self._alive_from = self._newest.index + 1
            self._status = status
            self._wake()

    def _wake(self) -> None:
        self._news += 1
        self._changed.notify_all()

    # Called by the display's thread.

    def figures(self, figures: Figures) -> None:
        """Set the counts and times of the following views."""
        self._figures = figures

    def wait(self, timeout_s: float) -> bool:
        """Wait until something has happened since the last view that may change it, or for the time; whether
        it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._news > 0, timeout_s)

    def view(self, now_ns: int | None = None) -> View:
        """The view to show now; the same object as the last time if nothing has changed."""
        with self._changed:
            self._news = 0
            now_ns = time.monotonic_ns() if now_ns is None else now_ns
            self._follow_pace(now_ns)
            found = self._decide(now_ns)
            if self._lagging and found.result is not None:
                self._returns.append(now_ns)
            self._lagging = found.state is State.LAGGING
            expires_ns = None if found.result is None else found.result.frame.captured_ns + self.budget_ns
            last = self._view
            if (
                last.number
                and (found.state, found.reason, found.roi) == (last.state, last.reason, last.roi)
                and found.frame is last.frame
                and (None if found.result is None else found.result.segmentation) is last.segmentation
                and self._figures is last.figures
            ):
                return last
            self._view = View(
                number=last.number + 1,
                at_ns=now_ns,
                state=found.state,
                reason=found.reason,
                frame=found.frame,
                roi=found.roi,
                segmentation=None if found.result is None else found.result.segmentation,
                expires_ns=expires_ns,
                figures=self._figures,
            )
            return self._view

    def _decide(self, now_ns: int) -> _Decision:
        newest, roi, result = self._newest, self._newest_roi, self._result
        if (lost := self._lost(now_ns)) is not None:
            awaited = self._awaited(now_ns)
            return _Decision(State.STARTING if awaited else State.SOURCE_LOST, awaited or lost, newest, roi)
        if self._frozen_since_ns is not None:
            lasted = _seconds(now_ns - self._frozen_since_ns)
            return _Decision(State.FROZEN, f"the image has not changed for {lasted}", newest, roi)
        if newest is None or result is None or result.frame.index < self._alive_from or self._searching:
            overdue = not self._searching and 0 < self._alive_ns < now_ns - FIRST_OUTLINE_NS
            return _Decision(
                State.LAGGING if overdue else State.STARTING, self._why_not_yet(now_ns), newest, roi
            )
        if self._may_show(result, now_ns):
            state, reason = result.state, ""
            if self._slow:
                state, reason = State.SLOW, self._why_slow()
            elif self._restless:
                state, reason = State.LAGGING, self._why_restless()
            return _Decision(state, reason, result.frame, result.roi, result)
        if self._slow or self._awaits_frame(newest, result):
            return _Decision(State.SLOW, self._why_slow(), newest, roi)
        return _Decision(State.LAGGING, self._why_late(result, newest, now_ns), newest, roi)

    def _may_show(self, result: Result, now_ns: int) -> bool:
        """Whether a result is young enough to be shown; after LAGGING, whether it has some life left."""
        age_ns = now_ns - result.frame.captured_ns
        # An outline that is on the display already stays until it expires.
        shown = self._view.segmentation is not None and self._view.frame is result.frame
        return age_ns < (
            round(self.budget_ns * RETURN_SHARE) if self._lagging and not shown else self.budget_ns
        )

    def _awaits_frame(self, newest: Frame, result: Result) -> bool:
        """Whether an outline came in time, and the frame after it came too late to follow it."""
        if (
            result.age_ns > RETURN_SHARE * self.budget_ns
            or self._arrived_ns - newest.captured_ns > self.budget_ns
        ):
            return False
        apart_ns = newest.captured_ns - result.frame.captured_ns
        return newest.index == result.frame.index or (
            newest.index == result.frame.index + 1 and apart_ns > result.age_ns
        )

    def _follow_pace(self, now_ns: int) -> None:
        """Update whether the source is slow, or the net is too slow for outlines without gaps."""
        interval_ns = self._interval_ns()
        late = interval_ns is not None and self._arrived_ns - (
            self._newest.captured_ns if self._newest else 0
        )
        if not self._ages or late > self.budget_ns:
            self._slow = self._restless = False
            return
        if interval_ns is None and (self._slow or self._is_overdue(now_ns)):
            # A source of which too few frames are known: it stays slow until its pace says otherwise.
            self._slow, self._restless = True, False
            return
        age_ns = statistics.median(self._ages)
        limit_ns = self.budget_ns * (CALM_SHARE if self._slow else 1.0)
        # Not the net's fault: it takes less time than passes between two frames.
        self._slow = (
            interval_ns is not None
            and interval_ns + age_ns > limit_ns
            and age_ns < min(CALM_SHARE * interval_ns, self.budget_ns)
        )
        gaps = [b - a for a, b in itertools.pairwise(self._result_times)]
        if self._slow or (gaps and statistics.median(gaps) + age_ns < CALM_SHARE * self.budget_ns):
            self._restless = False
            self._returns.clear()
        elif len(self._returns) == RETURNS and now_ns - self._returns[0] < RETURNS_WITHIN_NS:
            self._restless = True

    def _is_overdue(self, now_ns: int) -> bool:
        """Whether the newest frame's outline came in time, and has expired before another frame came."""
        newest, result = self._newest, self._result
        return (
            newest is not None
            and result is not None
            and result.frame.index == newest.index >= self._alive_from
            and self._frozen_since_ns is None
            and now_ns - newest.captured_ns >= self.budget_ns
            and self._awaits_frame(newest, result)
        )

    def _interval_ns(self) -> float | None:
        """The usual time between two frames; None while it is not known."""
        if len(self._arrivals) < 3:
            return None
        return statistics.median(b - a for a, b in itertools.pairwise(self._arrivals))

    def _why_slow(self) -> str:
        limit = f"limit {self.budget_ns / 1e6:.0f} ms"
        interval_ns = self._interval_ns()
        if self._slow and interval_ns is None and len(self._arrivals) > 1:
            interval_ns = self._arrivals[-1] - self._arrivals[-2]
        if not self._slow or interval_ns is None:
            return f"no newer frame yet; {limit}"
        pace = (
            f"{1e9 / interval_ns:.0f} frames per second"
            if interval_ns < 6e8
            else f"one frame in {_seconds(round(interval_ns))}"
        )
        return f"the source gives {pace}, so outlines come and go; {limit}"

    def _why_restless(self) -> str:
        age_ms = statistics.median(self._ages) / 1e6
        return (
            f"an outline takes {age_ms:.0f} ms, so outlines come and go; limit {self.budget_ns / 1e6:.0f} ms"
        )

    def end(self, now_ns: int | None = None) -> View:
        """The view to show after the last one of a source that has come to its end."""
        with self._changed:
            last, at_ns = self._view, time.monotonic_ns() if now_ns is None else now_ns
            reason = "the recording has been played to its end"
            return View(
                last.number + 1,
                at_ns,
                State.ENDED,
                reason,
                self._newest,
                self._newest_roi,
                figures=self._figures,
            )

    def _why_not_yet(self, now_ns: int) -> str:
        if self._newest is None:
            opened = self._status.phase in (Phase.OPEN, Phase.ENDED)
            if awaited := self._awaited(now_ns):
                return awaited
            return "waiting for the first frame" if opened else "opening the source"
        return self._searching or "waiting for the first outline"

    def _awaited(self, now_ns: int) -> str:
        """What a source waits for that is alive but sends no frames; empty if it reported nothing lately."""
        recent = now_ns - self._status.awaited_ns < AWAITED_NS and self._status.phase is not Phase.WAITING
        return self._status.awaited if recent else ""

    def _lost(self, now_ns: int) -> str | None:
        """Why the source counts as lost, or None."""
        status = self._status
        if status.phase in (Phase.WAITING, Phase.FAILED) or (
            status.phase is Phase.OPENING and (self._newest is not None or status.reason)
        ):
            when = ""
            if status.retry_ns is not None:
                when = f"; next try in {_seconds(max(0, status.retry_ns - now_ns))}"
            return f"{status.reason or 'opening the source'}{when}"
        if self._newest is None or status.phase is Phase.ENDED:
            return None
        silence_ns = now_ns - self._arrived_ns
        return f"no frame for {_seconds(silence_ns)}" if silence_ns >= self._patience_ns() else None

    def _patience_ns(self) -> int:
        """Silence after which the source counts as lost.

        For a slow source, three usual intervals. For others, the budget less what the newest frame had used
        of it when it arrived: when its outline expires, the silence is the reason to give.
        """
        usual_ns = self._interval_ns()
        if usual_ns is None or self._newest is None:
            return max(self.budget_ns, FIRST_SILENCE_NS)
        spent_ns = self._arrived_ns - self._newest.captured_ns
        return max(self.budget_ns - max(0, spent_ns), round(3 * min(usual_ns, MAX_INTERVAL_NS)))

    def _why_late(self, result: Result, newest: Frame, now_ns: int) -> str:
        limit = f"limit {self.budget_ns / 1e6:.0f} ms"
        if (late_ns := self._arrived_ns - newest.captured_ns) > self.budget_ns:
            return f"the newest frame came {late_ns / 1e6:.0f} ms late; {limit}"
        if result.age_ns > RETURN_SHARE * self.budget_ns:
            return f"the last outline came {result.age_ns / 1e6:.0f} ms after its frame; {limit}"
        return f"no outline of a frame of the last {_seconds(now_ns - result.frame.captured_ns)}; {limit}"


def _seconds(duration_ns: int) -> str:
    """``0.8 s``: rounded down to a tick, so that it does not change with every frame."""
    return f"{duration_ns // TICK_NS * TICK_NS / 1e9:.1f} s"
