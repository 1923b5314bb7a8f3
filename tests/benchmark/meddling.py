"""Engines that know or hide how long they take, and what comes between a loop and who measures it."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from streamseg.backends import FakeBackend
from streamseg.core.types import InputSpec, Result

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)


class SelfTimed(FakeBackend):
    """Knows how long each of its own calls took. The delays are taken in turn, milliseconds."""

    def __init__(self, delays: Sequence[float] = (0.0,)) -> None:
        super().__init__(SPEC)
        self.delays = delays
        self.durations_ms: list[float] = []

    def infer(self, tensor: Any) -> Any:
        began = time.monotonic_ns()
        time.sleep(self.delays[min(len(self.durations_ms), len(self.delays) - 1)] / 1e3)
        answer = super().infer(tensor)
        self.durations_ms.append((time.monotonic_ns() - began) / 1e6)
        return answer


class Hanging(FakeBackend):
    """Does not answer its third call, until the block ends."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.released = threading.Event()

    def infer(self, tensor: Any) -> Any:
        if self.calls == 2:
            self.released.wait(60)
        return super().infer(tensor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.released.set()


class Meddling:
    """A sink or tap between the loop and the benchmark that drops or repeats what it is given."""

    def __init__(self, inner: Any, meddle: Callable[[int], int]) -> None:
        self.name = getattr(inner, "name", "tap")
        self.inner, self.meddle, self.count = inner, meddle, -1

    def write(self, result: Result) -> None:
        self._hand_on(self.inner.write, result)

    def on_result(self, result: Result) -> None:
        self._hand_on(self.inner.on_result, result)

    def _hand_on(self, receive: Callable[[Result], None], result: Result) -> None:
        self.count += 1
        for _ in range(self.meddle(self.count)):
            receive(result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Remembering:
    """A sink."""

    name = "remembering"

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result) -> None:
        self.results.append(result)

    def close(self) -> None:
        """Nothing to finish."""
