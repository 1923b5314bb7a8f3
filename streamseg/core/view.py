"""What a live display shows at one moment: the loop decides it, displays and recorders only read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

from streamseg.core.latency import Percentiles
from streamseg.core.types import Frame, Result, Roi, Segmentation, State

OUTLINE_EXPIRED = "the last outline is older than the age budget"
_RECORDING = re.compile(r"recording\s*([0-9].*)?")
_CLAIMS = (State.NERVE, State.NO_NERVE, State.LOW_CONFIDENCE, State.UNLIKE_TRAINING)


class Command(StrEnum):
    """A request to the loop from the user of a display."""

    QUIT = "quit"
    RECORD = "record"
    """Start a recording, or end the running one."""
    START_RECORDING = "start recording"
    """Start a recording unless one runs: from a user who may not see yet what another has just asked for."""
    STOP_RECORDING = "stop recording"
    """End the recording that runs, if any."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts since the start, and rates and times of the last seconds."""

    offered: int = 0
    """Frames that the source delivered."""
    processed: int = 0
    """Frames that were segmented."""
    dropped: int = 0
    """Frames that a newer one replaced before they were segmented."""
    reconnects: int = 0
    """Times that the source was opened again after it had delivered frames."""
    offered_fps: float | None = None
    processed_fps: float | None = None
    age: Percentiles | None = None
    """From a frame's capture until it was displayed with its outline."""
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    """Times per segmented frame: preprocess, infer, postprocess."""
    recording: str | None = None
    """None while nothing is recorded; else the text to show: ``recording 0:12``, or why it stopped."""
    clock: str = "arrival"
    """The start of ages, as in SourceInfo: ``driver`` (the grabber's time stamp) or ``arrival``."""

    @property
    def recorded_time(self) -> str | None:
        """What ``recording`` says after that word: ``0:12, 3 left out``; None if no recording runs."""
        return recorded_time(self.recording)


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """The content of a display from ``at_ns`` on, until the next view.

    An outline always belongs to this very frame, and must be gone at ``expires_ns``, whatever else happens: a
    display that cannot promise that draws none.
    """

    number: int
    """1, 2, 3, ...; a view with a known number is the same view."""
    at_ns: int
    """Monotonic nanoseconds of the decision."""
    state: State
    reason: str = ""
    """One line that says why there is no outline: ``no frame for 0.8 s; next try in 2 s``. Empty with one,
    except in the state SLOW, whose outlines come and go."""
    frame: Frame | None = None
    """None before the first frame. With the state SOURCE_LOST it is an old one, which a display must say."""
    roi: Roi | None = None
    """The ultrasound image in the frame; None if not known yet: then no part of the frame is shown."""
    segmentation: Segmentation | None = None
    """The segmentation of this frame; None if unknown, or too old to be shown."""
    expires_ns: int | None = None
    """Monotonic nanoseconds from which on the outline must not be displayed; None without segmentation."""
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        needed = (self.frame, self.roi, self.expires_ns)
        if self.segmentation is not None and any(value is None for value in needed):
            raise TypeError("a view with a segmentation needs its frame, its ROI and the time it expires")

    @property
    def age_ns(self) -> int | None:
        """Nanoseconds from the frame's capture to this view; None without a frame."""
        return None if self.frame is None else self.at_ns - self.frame.captured_ns

    def __repr__(self) -> str:
        return f"View({self.number}, {self.state}, {self.frame!r}, {self.segmentation!r})"


def recorded_time(status: str | None) -> str | None:
    """What a recorder's status says after ``recording``; None unless a recording runs.

    ``recording 0:12`` gives ``0:12``; ``recording stopped: disk full`` and ``recorded 0:12`` give None.
    """
    found = _RECORDING.fullmatch(status or "")
    return None if found is None else found[1] or ""


def without_expired_outline(view: View, now_ns: int) -> View:
    """The view as it may be shown at ``now_ns``: without what was found in its frame once that has expired.

    A view that has not expired, or holds no segmentation, is returned as it is. What the segmentation
    claimed (nerve, no nerve, ...) becomes LAGGING; the other states stay.
    """
    if view.segmentation is None or view.expires_ns is None or now_ns < view.expires_ns:
        return view
    if view.state not in _CLAIMS:
        return replace(view, segmentation=None, expires_ns=None)
    return replace(view, segmentation=None, expires_ns=None, state=State.LAGGING, reason=OUTLINE_EXPIRED)


@runtime_checkable
class Display(Protocol):
    """Shows views. Called from one thread, the one in which it was built."""

    name: str

    def show(self, view: View) -> None:
        """Display a view at once; returns when it is displayed, or handed over for that."""
        ...

    def poll(self) -> list[Command]:
        """The user's commands since the last call. Called at least 30 times a second; never waits."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class RunObserver(Protocol):
    """Observes a live run, to record it. No method waits or raises: an observer has a bounded queue."""

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        """A frame arrived from the source; called from the reader's thread."""
        ...

    def on_result(self, result: Result) -> None:
        """A frame was segmented; called in order."""
        ...

    def on_view(self, view: View, shown_ns: int) -> None:
        """A view was displayed, at ``shown_ns``."""
        ...

    def close(self) -> None: ...
