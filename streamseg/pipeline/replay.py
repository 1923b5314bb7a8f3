"""The loop for recorded sources: decode, infer and write at the same time, every frame, in order.

Threads joined by two short queues::

    decode, preprocess  ->  infer, in as many threads as the engine has lanes  ->  postprocess, sinks

Rules:

* A stage that raises ends the run. What comes before its frame is delivered to the sinks first, then
  the error is reported. If several stages fail, the one furthest downstream decided where the output
  ends, so its error is reported.
* When one sink fails, the others still get that frame; then the run ends.
* Sinks are closed in every case, all of them, also after Ctrl-C.
* Setting ``stop`` ends the run after the frames in progress; that is not an error.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from streamseg.core.errors import StreamsegError
from streamseg.core.latency import Durations, LatencyRecorder, Percentiles, StageClock
from streamseg.core.types import Frame, Planes, Result, Roi, Sink, Source, State
from streamseg.pipeline.ordered_queue import WAIT_S, OrderedQueue
from streamseg.segmentation.preprocess import Prepared
from streamseg.segmentation.segmenter import Segmenter

GRACE_S = 20.0
"""How long a stage may take to end after the run was ended."""
MAX_BYTES = 75 << 20
"""Frames in progress, above which none is read: of 4K each stage has one, and of larger ones not all have."""
AHEAD = 4
"""Frames that may wait between two stages: with 2, lanes that share their cores waited for one another."""
_MEMORY_TICK_S = 0.005


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a run."""

    frames: int
    """Frames delivered to every sink."""
    seconds: float
    """From the start until the last sink was closed."""
    fps: float | None
    """(n - 1) / span of the times at which frames were done; None below two frames."""
    stages: Mapping[str, Percentiles]
    """Times per frame: decode, preprocess, infer, postprocess, and each sink by its name."""
    states: Mapping[State, int]
    """Frames by state."""
    age: Percentiles
    """From the decoded frame to its result, waiting included."""
    stopped: bool
    """True when ``stop`` ended the run."""
    error: BaseException | None = None
    """The cause of a premature end, else None."""
    outlined: Mapping[str, int] = field(default_factory=dict)
    """Frames with an outline of a structure, by its name, for each that the engine outlines."""


class Replay:
    """One run over a recorded source: its threads, their queues, and what was measured. Runs once."""

    def __init__(
        self,
        segmenter: Segmenter,
        sinks: Sequence[Sink],
        *,
        locate: Callable[[Frame], tuple[Roi | None, bool]] = lambda frame: (None, True),
        max_frames: int | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        """``locate`` returns a frame's ROI (None: the segmenter's), and whether the image is known to be
        there: a frame in which it is not counts as unlike the training data. ``max_frames`` ends the run
        early.

        ``on_result`` is called after the sinks, in the thread that writes.
        """
        self._segmenter, self._locate = segmenter, locate
        self._max_frames, self._on_result = max_frames, on_result
        self._sinks = {id(sink): (_sink_name(sink), sink) for sink in sinks}
        self._prepared: OrderedQueue[tuple[int, Prepared]] = OrderedQueue(depth=AHEAD)
        self._inferred: OrderedQueue[tuple[Prepared, Planes]] = OrderedQueue(segmenter.lanes, AHEAD)
        self._errors: dict[str, BaseException] = {}
        self._failed_position: float = math.inf
        self._lock = threading.Lock()
        self._writing: int | None = None
        # Bytes of frames, each counted by one thread.
        self._held = self._written = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        # Python 3.11 considers a thread ended when Ctrl-C interrupts its join(), hence these.
        self._ended: dict[str, threading.Event] = {}
        self._recorder = LatencyRecorder()
        self._ages = Durations()
        self._states: Counter[State] = Counter()
        self._outlined: Counter[str] = Counter()

    def run(self, source: Source, stop: threading.Event) -> Report:
        """Segment every frame and give the results, in order, to the sinks; close them, but not the source.

        Setting ``stop`` ends the run. Any other end is in the report's ``error``, for the caller to raise.
        """
        self._stop = stop
        started = time.monotonic_ns()
        closing: BaseException | None = None
        try:
            self._start(source)
            self._wait()
        except BaseException:  # Ctrl-C reaches the thread that waits
            self._prepared.abort()  # what is being inferred and written is still finished
            self._wait()
            raise
        finally:
            closing = self._close()
        causes = (self._errors.get("write"), closing, *map(self._errors.get, ("infer", "read", "hang")))
        error = next((cause for cause in causes if cause is not None), None)
        return self._report((time.monotonic_ns() - started) / 1e9, error)

    def _start(self, source: Source) -> None:
        stages: dict[str, Callable[[], None]] = {
            "read": partial(self._read, source),
            **{f"infer {lane}": self._infer for lane in range(self._segmenter.lanes)},
            "write": self._write,
        }
        for name, work in stages.items():
            self._ended[name] = threading.Event()
            target = partial(_signal_end, work, self._ended[name])
            self._threads.append(threading.Thread(target=target, name=f"streamseg-{name}", daemon=True))
            self._threads[-1].start()

    def _read(self, source: Source) -> None:
        try:
            frames = iter(source)
            position = 0
            limit = math.inf if self._max_frames is None else self._max_frames
            while position < limit and not self._stop.is_set():
                clock = StageClock()
                with clock.stage("decode"):
                    frame = next(frames, None)
                if frame is None:
                    break
                roi, in_place = self._locate(frame)
                prepared = self._segmenter.prepare(frame, roi, clock)
                prepared = prepared if in_place else replace(prepared, misplaced=True)
                self._held += frame.nbytes
                if not self._prepared.put((position, prepared), position):
                    break
                del frame, prepared  # large, and not needed while the next one is decoded
                position += 1
                self._wait_for_memory()
        except BaseException as error:
            self._errors["read"] = error
        finally:
            self._prepared.finish()

    def _infer(self) -> None:
        position: int | None = None  # of the frame in hand
        try:
            while (item := self._prepared.get()) is not None:
                position, prepared = item
                if self._stop.is_set():
                    break
                found = prepared, self._segmenter.infer(prepared)
                if not self._inferred.put(found, position):
                    break
                position = None
                del item, prepared, found
        except BaseException as error:
            with self._lock:
                if position is not None and position < self._failed_position:
                    self._failed_position, self._errors["infer"] = position, error
        finally:
            if position is not None:
                self._prepared.abort()
            self._inferred.finish(position)

    def _write(self) -> None:
        try:
            while (item := self._inferred.get()) is not None:
                prepared, planes = item
                segmentation = self._segmenter.finish(prepared, planes)
                frame, clock = prepared.frame, prepared.clock
                age_ns = time.monotonic_ns() - frame.captured_ns
                # A copy of the times, since sinks may keep the result while theirs are being added.
                times = dict(clock.stage_ns), age_ns, dict(clock.began_ns)
                result = Result(frame, segmentation, prepared.roi, *times)
                self._deliver(result, clock)
                self._recorder.add(clock.stage_ns)
                self._ages.append(age_ns)
                self._states[result.state] += 1
                for name, structure in segmentation.structures.items():
                    self._outlined[name] += bool(structure.contours)
                if self._on_result is not None:
                    self._on_result(result)
                size = frame.nbytes
                del item, prepared, frame, result, segmentation, planes
                self._written += size
        except BaseException as error:
            self._errors["write"] = error
        finally:
            self._inferred.abort()

    def _wait_for_memory(self) -> None:
        """Wait while the frames between reading and writing are large, or until the run ends."""
        while self._held - self._written > MAX_BYTES and not self._stop.is_set():
            if self._prepared.is_aborted or self._inferred.is_aborted:
                return
            time.sleep(_MEMORY_TICK_S)

    def _deliver(self, result: Result, clock: StageClock) -> None:
        failure: Exception | None = None
        for key, (name, sink) in self._sinks.items():
            self._writing = key
            try:
                with clock.stage(name):
                    sink.write(result)
            except Exception as error:
                failure = failure or error
        self._writing = None
        if failure is not None:
            raise failure

    def _wait(self) -> None:
        """Wait until all stages have ended, or one hangs after the run's end: that is stored as an error."""
        deadline: float | None = None
        while working := self._working():
            over = self._stop.is_set() or self._prepared.is_aborted or self._inferred.is_aborted
            if deadline is None and over:
                deadline = time.monotonic() + GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                self._abandon()
                return
            self._ended[working[-1]].wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)

    def _working(self) -> list[str]:
        return [name for name, ended in self._ended.items() if not ended.is_set()]

    def _abandon(self) -> None:
        """Release the stages that only wait for others; store an error that names those that hang."""
        self._prepared.abort()
        self._inferred.abort()
        for ended in self._ended.values():
            ended.wait(WAIT_S)
        if hanging := ", ".join(self._working()):
            self._errors["hang"] = StreamsegError(
                f"the stage '{hanging}' still hangs {GRACE_S:.0f} s after the run was ended; "
                "check that the source and the outputs answer"
            )

    def _close(self) -> BaseException | None:
        """Close every sink but one that hangs in a write; the first error, if any."""
        hanging = self._writing if "write" in self._working() else None
        failure: BaseException | None = None
        for key, (_, sink) in self._sinks.items():
            if key != hanging:
                try:
                    sink.close()
                except Exception as error:
                    failure = failure or error
        return failure

    def _report(self, seconds: float, error: BaseException | None) -> Report:
        return Report(
            frames=self._recorder.count,
            seconds=seconds,
            fps=self._recorder.fps(),
            stages=self._recorder.stages(),
            states=dict(self._states),
            age=self._ages.percentiles(),
            stopped=self._stop.is_set(),
            error=error,
            outlined=dict(self._outlined),
        )


def replay(
    source: Source,
    segmenter: Segmenter,
    sinks: Sequence[Sink],
    *,
    stop: threading.Event,
    max_frames: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """Segment every frame of a source and give the results, in order, to the sinks.

    ``max_frames`` ends the run early; ``on_result`` is called after the sinks, in the thread that
    writes. The caller closes the source. Raises whatever ended the run, after the sinks were closed.
    """
    report = Replay(segmenter, sinks, max_frames=max_frames, on_result=on_result).run(source, stop)
    if report.error is not None:
        raise report.error
    return report


def _signal_end(work: Callable[[], None], ended: threading.Event) -> None:
    try:
        work()
    finally:
        ended.set()


def _sink_name(sink: Sink) -> str:
    """The stage name of a sink's writing: its ``name``, else that of its class."""
    return str(getattr(sink, "name", type(sink).__name__.lower()))
