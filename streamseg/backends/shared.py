"""One engine for several streams of one process.

Each stream gets a lane, which it uses as a back end of its own. Requests of all lanes wait in one queue,
first come first served, so that no stream starves: each waiting stream has one request there. An engine that
takes several frames at a time gets the waiting requests when it is free. It never waits for a full batch,
since frames would age meanwhile; empty places repeat other frames, and their answers are dropped.

With many streams a frame would age in that queue. So a live loop first waits for its turn and then asks with
its newest frame: only as many requests wait as the engine takes next.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import EngineError, StreamsegError
from streamseg.core.types import Backend, Planes, Tensor

TURN_S = 0.05
"""Seconds that a lane has for its request when its turn has come; then the next lane's turn comes."""
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
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._turns: deque[Lane] = deque()
        """Lanes waiting for their turn."""
        self._called: dict[Lane, float] = {}
        """Lanes whose turn it is, and until when, monotonic seconds."""
        self._served: set[_Request] = set()
        """Requests in the running calls."""
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"streamseg-shared-{number}", daemon=True)
            for number in range(self.info.lanes)
        ]
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
            self._called.pop(lane, None)
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
            self._call()
        while not lane.called.wait(TURN_S):
            with self._changed:
                self._call()

    def _call(self) -> None:
        """Call the lanes whose turn it is: as many as the engine takes next."""
        now = time.monotonic()
        self._called = {lane: until for lane, until in self._called.items() if until > now}
        room = self.batch * len(self._threads) - len(self._waiting) - len(self._called)
        for _ in range(min(room, len(self._turns))):
            lane = self._turns.popleft()
            self._called[lane] = now + TURN_S
            lane.called.set()

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
            self._call()

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
        for thread in self._threads:
            thread.join(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        while taken := self._take():
            error: BaseException | str | None = None
            answers: Planes | None = None
            try:
                answers = self._answers([request.tensor for request in taken])
            except BaseException as raised:  # raised in the caller's thread; this one goes on
                error = raised
            with self._changed:
                self._calls += 1
                self._requests += len(taken)
                self._served.difference_update(taken)
                for row, request in enumerate(taken):
                    request.settle(None if answers is None else answers[row], error)

    def _take(self) -> list[_Request]:
        """Wait for requests and take the oldest, as many as the engine takes; none if closed."""
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            taken = [self._waiting.popleft() for _ in range(min(self.batch, len(self._waiting)))]
            self._served.update(taken)
            self._call()
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
