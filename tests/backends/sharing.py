"""What the tests of shared engines have in common: engines that tell who asked, and threads that ask."""

import threading
import time
from collections.abc import Callable

import numpy as np

from streamseg.core.types import Backend, InputSpec, Tensor

SPEC = InputSpec(16, 24, mean=0.0, std=1.0, threshold=0.5, min_area=0.001)
LONG_S = 30.0


def tensor(number: float) -> Tensor:
    return np.full((1, 1, SPEC.height, SPEC.width), number, np.float32)


class Rows:
    """An engine of any batch that answers each frame with its own values, and notes what it was given."""

    name, fingerprint, spec, precision, trained = "rows", "f" * 64, SPEC, "int8", False

    def __init__(self, batch: int = 1, lanes: int = 1, work: Callable[[int], object] = lambda call: None):
        self.batch, self.lanes, self.work = batch, lanes, work
        self.given: list[list[float]] = []
        self.closed = False
        self._lock = threading.Lock()

    def infer(self, tensor: Tensor) -> np.ndarray:
        assert tensor.shape == (self.batch, 1, SPEC.height, SPEC.width)
        with self._lock:
            self.given.append([float(row[0, 0, 0]) for row in tensor])
            call = len(self.given) - 1
        self.work(call)
        return (tensor[0, 0] if self.batch == 1 else tensor[:, 0]).copy()

    def close(self) -> None:
        self.closed = True


class Asking:
    """A thread that asks one thing of a lane."""

    def __init__(self, lane: Backend, number: float) -> None:
        self.answer: np.ndarray | None = None
        self.error: BaseException | None = None
        self._lane, self._number = lane, number
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        try:
            self.answer = self._lane.infer(tensor(self._number))
        except BaseException as error:
            self.error = error

    def over(self) -> "Asking":
        self.thread.join(LONG_S)
        assert not self.thread.is_alive(), "it hangs"
        return self


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.001)


class Gate:
    """Holds an engine's call until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, call: int) -> None:
        self.entered.set()
        assert self.opened.wait(LONG_S)
