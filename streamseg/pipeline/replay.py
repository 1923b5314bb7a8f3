"""The loop for recorded sources: decode, infer and write at the same time, every frame, in order.

Threads joined by two short pipes::

    decode, preprocess  ->  infer, in as many threads as the engine has lanes  ->  postprocess, sinks

Rules:

* A stage that raises ends the run. What comes before its frame is delivered to the sinks first, then
  the error is raised here. Where several stages fail, the one furthest downstream decided where the
  output ends, so its error is raised.
* When one sink fails, the others still get that frame; then the run ends.
* Sinks are closed in every case, all of them, also after Ctrl-C.
* Setting ``stop`` ends the run after the frames in progress; that is no error.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streamseg.core.errors import StreamsegError
from streamseg.core.latency import LatencyRecorder, Percentiles, StageClock
from streamseg.core.types import Result, Sink, Source, State
from streamseg.pipeline.ordered_queue import WAIT_S, OrderedQueue
from streamseg.segmentation.postprocess import Probability
from streamseg.segmentation.preprocess import Prepared
from streamseg.segmentation.segmenter import Segmenter

GRACE_S = 20.0
"""How long a stage may take to end after it was told to."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

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
    """What ended the run, unless it ended as it should."""


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
    report = run_replay(source, segmenter, sinks, stop=stop, max_frames=max_frames, on_result=on_result)
    if report.error is not None:
        raise report.error
    return report


def run_replay(
    source: Source,
    segmenter: Segmenter,
    sinks: Sequence[Sink],
    *,
    stop: threading.Event,
    max_frames: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """:func:`replay` for those who want to know what was done before it broke: what ended the run is in the
    report's ``error``, for the caller to raise."""
    run = _Run(segmenter, sinks, stop, on_result)
    started = time.monotonic_ns()
    closing: BaseException | None = None
    try:
        run.start(source, max_frames)
        run.wait()
    except BaseException:  # Ctrl-C reaches the thread that waits
        run.halt()
        run.wait()
        raise
    finally:
        closing = run.close()
    causes = (run.errors.get("write"), closing, *map(run.errors.get, ("infer", "read", "hang")))
    error = next((cause for cause in causes if cause is not None), None)
    return run.report((time.monotonic_ns() - started) / 1e9, error)


class _Run:
    """State of one run: its threads, the pipes between them, and what was measured."""

    def __init__(
        self,
        segmenter: Segmenter,
        sinks: Sequence[Sink],
        stop: threading.Event,
        on_result: Callable[[Result], None] | None,
    ) -> None:
        self.prepared: OrderedQueue[tuple[int, Prepared]] = OrderedQueue()
        self.inferred: OrderedQueue[tuple[Prepared, Probability]] = OrderedQueue(writers=segmenter.lanes)
        self.errors: dict[str, BaseException] = {}
        self._segmenter = segmenter
        self._sinks = {id(sink): (_sink_name(sink), sink) for sink in sinks}
        self._writing: int | None = None
        self._failed_turn: float = math.inf
        self._lock = threading.Lock()
        self._stop = stop
        self._on_result = on_result
        self._threads: list[threading.Thread] = []
        # Python 3.11 takes a thread for ended when Ctrl-C interrupts its join(), hence these.
        self._ended: dict[str, threading.Event] = {}
        self._recorder = LatencyRecorder()
        self._ages = array("q")
        self._states: Counter[State] = Counter()

    def start(self, source: Source, max_frames: int | None) -> None:
        stages: dict[str, Callable[[], None]] = {
            "read": partial(self._read, source, max_frames),
            **{f"infer {lane}": self._infer for lane in range(self._segmenter.lanes)},
            "write": self._write,
        }
        for name, work in stages.items():
            self._ended[name] = threading.Event()
            target = partial(self._run, work, self._ended[name])
            self._threads.append(threading.Thread(target=target, name=f"streamseg-{name}", daemon=True))
            self._threads[-1].start()

    def _run(self, work: Callable[[], None], ended: threading.Event) -> None:
        try:
            work()
        finally:
            ended.set()

    def _read(self, source: Source, max_frames: int | None) -> None:
        try:
            frames = iter(source)
            turn = 0
            while (max_frames is None or turn < max_frames) and not self._stop.is_set():
                clock = StageClock()
                with clock.stage("decode"):
                    frame = next(frames, None)
                if frame is None:
                    break
                if not self.prepared.put((turn, self._segmenter.prepare(frame, clock=clock)), turn):
                    break
                turn += 1
        except BaseException as error:
            self.errors["read"] = error
        finally:
            self.prepared.end()

    def _infer(self) -> None:
        turn: int | None = None  # of the frame in hand
        try:
            while (item := self.prepared.get()) is not None:
                turn, prepared = item
                if self._stop.is_set():
                    break
                if not self.inferred.put((prepared, self._segmenter.infer(prepared)), turn):
                    break
                turn = None
        except BaseException as error:
            with self._lock:
                if turn is not None and turn < self._failed_turn:
                    self._failed_turn, self.errors["infer"] = turn, error
        finally:
            if turn is not None:
                self.prepared.cut()
            self.inferred.end(turn)

    def _write(self) -> None:
        try:
            while (item := self.inferred.get()) is not None:
                prepared, probability = item
                segmentation = self._segmenter.finish(prepared, probability)
                frame, clock = prepared.frame, prepared.clock
                age_ns = time.monotonic_ns() - frame.captured_ns
                # A copy of the times, since sinks may keep the result while theirs are being added.
                times = dict(clock.stage_ns), age_ns, dict(clock.began_ns)
                result = Result(frame, segmentation, prepared.roi, *times)
                self._deliver(result, clock)
                self._recorder.add(clock.stage_ns)
                self._ages.append(age_ns)
                self._states[result.state] += 1
                if self._on_result is not None:
                    self._on_result(result)
        except BaseException as error:
            self.errors["write"] = error
        finally:
            self.inferred.cut()

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

    def wait(self) -> None:
        """Wait until all stages have ended, or one hangs after the run's end: that is kept as an error."""
        deadline: float | None = None
        while working := self._working():
            if deadline is None and (self._stop.is_set() or self.prepared.is_cut or self.inferred.is_cut):
                deadline = time.monotonic() + GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                self._abandon()
                return
            self._ended[working[-1]].wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)

    def halt(self) -> None:
        """End the run after the frames that are being inferred and written."""
        self.prepared.cut()

    def _working(self) -> list[str]:
        return [name for name, ended in self._ended.items() if not ended.is_set()]

    def _abandon(self) -> None:
        """Release the stages that only wait for others; keep an error that names those that hang."""
        self.prepared.cut()
        self.inferred.cut()
        for ended in self._ended.values():
            ended.wait(WAIT_S)
        if hanging := ", ".join(self._working()):
            self.errors["hang"] = StreamsegError(
                f"the stage '{hanging}' still hangs {GRACE_S:.0f} s after the run was ended; "
                "check that the source and the outputs answer"
            )

    def close(self) -> BaseException | None:
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

    def report(self, seconds: float, error: BaseException | None) -> Report:
        return Report(
            frames=self._recorder.count,
            seconds=seconds,
            fps=self._recorder.fps(),
            stages=self._recorder.stages(),
            states=dict(self._states),
            age=Percentiles.of(self._ages),
            stopped=self._stop.is_set(),
            error=error,
        )


def _sink_name(sink: Sink) -> str:
    """The stage name of a sink's writing: its ``name``, else that of its class."""
    return str(getattr(sink, "name", type(sink).__name__.lower()))
