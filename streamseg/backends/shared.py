"""One engine for several streams of one process.

Each stream gets a lane, which it uses as a back end of its own. Requests of all lanes wait in one queue,
first come first served, so that no stream starves: each waiting stream has one request there. An engine that
takes several frames at a time gets the waiting requests when it is free. It never waits for a full batch,
since frames would age meanwhile; empty places repeat other frames, and their answers are dropped.

With many streams a frame would age in that queue. So a live loop first waits for its turn and then asks with
its newest frame. A turn comes when the engine is free, or so shortly before that the frame is ready when it
is: see :class:`Forecast`.

What streams compute around the engine, in Python, they do one at a time: see :attr:`Lane.alone`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import EngineError, StreamsegError
from streamseg.core.types import Backend, Planes, Tensor

TURN_S = 0.05
"""Seconds that a lane has for its request when its turn has come; then the next lane's turn comes."""
RECENT = 8
"""Calls of the engine, and turns, from which the next ones are estimated."""
CLOSE_S = 2.0
"""Seconds that closing waits for a running call; an engine that hangs is abandoned."""


class _Request:
    """A frame and, later, its answer."""

    __slots__ = ("answer", "done", "error", "lane", "tensor")

    def __init__(self, lane: Lane, tensor: Tensor) -> None:
        self.lane, self.tensor = lane, tensor
        self.done = threading.Event()
        self.answer: Planes | None = None
        self.error: BaseException | str | None = None

    def settle(self, answer: Planes | None, error: BaseException | str | None = None) -> None:
        """Set the answer or the error; the first one counts."""
        if not self.done.is_set():
            self.answer, self.error = answer, error
            self.done.set()


class Forecast:
    """Tells when an engine can take the next request, from its calls and from how fast streams ask.

    Times are seconds of a monotonic clock, given by the caller.
    """

    def __init__(self, lanes: int) -> None:
        """``lanes``: calls that the engine computes at the same time."""
        self._lanes = lanes
        self._began: dict[int, float] = {}
        self._calls: deque[float] = deque(maxlen=RECENT)
        self._leads: deque[float] = deque(maxlen=RECENT)

    def began(self, call: int, now: float) -> None:
        """A call began; ``call`` is unique among the running ones."""
        self._began[call] = now

    def ended(self, call: int, now: float) -> None:
        """A call has returned."""
        self._calls.append(now - self._began.pop(call))

    def asked(self, duration: float) -> None:
        """A stream has asked, this long after its turn came."""
        self._leads.append(duration)

    def free(self, now: float) -> tuple[int, float]:
        """Calls that the engine can take at once, or as soon as a stream that is called now has asked; and
        the seconds until there is another one.

        The second shortest and the second longest of the recent times count: one that a busy machine
        stretched must not make frames wait. As long as too few are known, every running call counts as about
        to end.
        """
        if len(self._calls) < RECENT:
            return self._lanes, TURN_S
        lead = sorted(self._leads)[-2] if len(self._leads) > 1 else 0.0
        left = [began + sorted(self._calls)[1] - lead - now for began in self._began.values()]
        later = [wait for wait in left if wait > 0]
        return self._lanes - len(later), min(later, default=TURN_S)


class SharedEngine:
    """Serves the requests of any number of lanes with one back end, which it does not own.

    It calls the back end from as many threads as that has lanes. Close it, or leave the ``with`` block:
    waiting requests then raise EngineError. The back end stays open.
    """

    def __init__(self, backend: Backend) -> None:
        """``backend`` may take one frame per call or several."""
        self.backend = backend
        self.info = EngineInfo.of(backend)
        self.batch = self.info.batch
        self._calls = self._requests = 0
        self.alone = threading.Lock()
        """See :attr:`Lane.alone`."""
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._waiting: deque[_Request] = deque()
        self._turns: deque[Lane] = deque()
        """Lanes waiting for their turn."""
        self._called: dict[Lane, float] = {}
        """Lanes whose turn it is, and since when, monotonic seconds."""
        self._forecast = Forecast(self.info.lanes)
        self._due = threading.Condition(lock)
        """Notified when turns may have become due, or another time for them is known."""
        self._served: set[_Request] = set()
        """Requests in the running calls."""
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"streamseg-shared-{number}", daemon=True)
            for number in range(self.info.lanes)
        ]
        self._threads.append(threading.Thread(target=self._give_turns, name="streamseg-turns", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def calls(self) -> int:
        """Finished calls of the engine."""
        return self._calls

    @property
    def requests(self) -> int:
        """Frames in those calls, without padding."""
        return self._requests

    @property
    def fill(self) -> float | None:
        """Mean number of frames in a call, 1..batch; None before the first."""
        with self._changed:
            return self._requests / self._calls if self._calls else None

    @property
    def hangs(self) -> bool:
        """Whether it was closed during a call that has not returned since."""
        return self._closed and any(thread.is_alive() for thread in self._threads)

    def lane(self) -> Lane:
        """A back end for one stream. May be called at any time."""
        return Lane(self)

    def infer(self, lane: Lane, tensor: Tensor) -> Planes:
        """Wait for the answer to one lane's tensor (1, 1, H, W); see :meth:`Lane.infer`."""
        spec = self.backend.spec
        expected = (1, 1, spec.height, spec.width)
        if tensor.shape != expected or tensor.dtype != np.float32:  # or it would spoil others' batch
            raise EngineError(
                f"engine {self.backend.name} takes a tensor float32 {expected}, "
                f"received {tensor.dtype} {tensor.shape}"
            )
        request = _Request(lane, tensor)
        with self._changed:
            if self._closed or lane.closed:
                raise EngineError(self._closed_words())
            called = self._called.pop(lane, None)
            if called is not None:
                self._forecast.asked(time.monotonic() - called)
            self._waiting.append(request)
            self._changed.notify()
        request.done.wait()
        if request.answer is None:
            cause = request.error
            if isinstance(cause, BaseException):
                raise EngineError(self._failed_words(cause)) from cause
            raise EngineError(cause or self._closed_words())
        return request.answer if self.batch == 1 else np.array(request.answer)  # the batch is shared

    def wait_turn(self, lane: Lane) -> None:
        """Wait until the engine would take this lane's request next; see :meth:`Lane.wait_turn`."""
        with self._changed:
            if self._closed or lane.closed:
                return
            lane.called.clear()
            self._called.pop(lane, None)
            self._turns.append(lane)
            self._due.notify()
        lane.called.wait()

    def _give_turns(self) -> None:
        """Call the lanes whose turn it is, at the time at which the engine can take a request."""
        with self._changed:
            while not self._closed:
                wait_s = self._call(time.monotonic())
                self._due.wait(wait_s if self._turns else None)

    def _call(self, now: float) -> float:
        """Call as many lanes as the engine can take; returns the seconds until it should be asked again."""
        self._called = {lane: since for lane, since in self._called.items() if since + TURN_S > now}
        free, wait_s = self._forecast.free(now)
        room = self.batch * free - len(self._waiting) - len(self._called)
        for _ in range(min(room, len(self._turns))):
            lane = self._turns.popleft()
            self._called[lane] = now
            lane.called.set()
        return min([wait_s, *(since + TURN_S - now for since in self._called.values())])

    def wake(self, lane: Lane) -> None:
        """End the waiting of a closed lane."""
        with self._changed:
            for request in [*self._waiting, *self._served]:
                if request.lane is lane:
                    request.settle(None)
            self._waiting = deque(request for request in self._waiting if request.lane is not lane)
            self._turns = deque(other for other in self._turns if other is not lane)
            self._called.pop(lane, None)
            lane.called.set()
            self._due.notify()

    def close(self) -> None:
        """End the waiting of all lanes. May be called twice, from any thread."""
        with self._changed:
            self._closed = True
            for request in [*self._waiting, *self._served]:
                request.settle(None)
            self._waiting.clear()
            for lane in self._turns:
                lane.called.set()
            self._turns.clear()
            self._changed.notify_all()
            self._due.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        own = threading.get_ident()
        while taken := self._take(own):
            error: BaseException | str | None = None
            answers: Planes | None = None
            try:
                answers = self._answers([request.tensor for request in taken])
            except BaseException as raised:  # raised in the caller's thread; this one goes on
                error = raised
            with self._changed:
                self._forecast.ended(own, time.monotonic())
                self._due.notify()
                self._calls += 1
                self._requests += len(taken)
                self._served.difference_update(taken)
                for row, request in enumerate(taken):
                    request.settle(None if answers is None else answers[row], error)

    def _take(self, own: int) -> list[_Request]:
        """Wait for requests and take the oldest, as many as the engine takes; none if closed."""
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            taken = [self._waiting.popleft() for _ in range(min(self.batch, len(self._waiting)))]
            self._served.update(taken)
            if taken:
                self._forecast.began(own, time.monotonic())
            self._due.notify()
            return taken

    def _answers(self, tensors: list[Tensor]) -> Planes:
        """Probabilities (n, structures, H, W), or of more rows, for n tensors."""
        spec = self.backend.spec
        if self.batch == 1:
            return self.backend.infer(tensors[0])[None]
        filled = [tensors[number % len(tensors)] for number in range(self.batch)]
        answers = self.backend.infer(np.concatenate(filled))
        expected = (self.batch, len(spec.structures), spec.height, spec.width)
        if answers.shape != expected:
            raise EngineError(
                f"engine {self.backend.name} gave maps {answers.shape}, its specification says "
                f"{expected}; export it again"
            )
        return answers

    def _closed_words(self) -> str:
        return f"engine {self.backend.name} is closed to this stream; open it again"

    def _failed_words(self, error: BaseException) -> str:
        if isinstance(error, StreamsegError):
            return str(error)
        return f"engine {self.backend.name} failed ({type(error).__name__}: {error}); load it again"


class Lane(Described):
    """One stream's access to a shared engine: a :class:`streamseg.core.types.Backend` for single frames."""

    def __init__(self, shared: SharedEngine) -> None:
        """Made by :meth:`SharedEngine.lane`."""
        self.info = replace(shared.info, batch=1, lanes=1)
        self.closed = False
        self.called = threading.Event()
        """Set when it is this lane's turn."""
        self.alone: AbstractContextManager[object] = shared.alone
        """Held by one stream at a time while it computes. Each array operation gives Python's lock away for a
        moment; with the threads of many streams waiting for it, most of the processor's time went into waking
        them, a hundred times for a frame."""
        self._shared = shared

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, H, W), of a tensor (1, 1, H, W); waits for its turn.

        The caller may keep it. Raises EngineError if the engine fails, or if this lane or the engine is
        closed meanwhile.
        """
        return self._shared.infer(self, tensor)

    def wait_turn(self) -> None:
        """Wait until the engine will take this stream's next request at once, so that its frame is as new as
        possible. The call is optional, and no request needs to follow. Returns at once if this lane or the
        engine is closed.
        """
        self._shared.wait_turn(self)

    def close(self) -> None:
        """End this stream's waiting; the other streams go on. May be called twice, from any thread."""
        self.closed = True
        self._shared.wake(self)
