"""Stand-ins for tests of the loop: a source, a sink, and a run of both."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from streamseg.backends import FakeBackend
from streamseg.core.errors import SinkError, SourceCut
from streamseg.core.types import Frame, InputSpec, Result, SourceInfo, Tensor
from streamseg.pipeline.replay import Report, replay
from streamseg.segmentation.segmenter import Segmenter

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)


class Clip:
    """A source of ``count`` grey frames that can be slow, and can fail before a frame."""

    live = False

    def __init__(
        self,
        count: int,
        *,
        fail_at: int | None = None,
        error: Exception | None = None,
        pause: Callable[[], float] | None = None,
        shape: tuple[int, int] = (64, 96),
    ) -> None:
        self.info = SourceInfo("clip", *shape)
        self.count, self.fail_at, self.pause, self.shape = count, fail_at, pause, shape
        self.error = error or SourceCut("clip ends in the middle; it was cut")
        self.given = 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if self.pause:
                time.sleep(self.pause())
            if index == self.fail_at:
                raise self.error
            self.given += 1
            image = np.full(self.shape, index % 256, np.uint8)
            yield Frame(image, index, time.monotonic_ns(), pts_seconds=index / 25)
        if self.fail_at == self.count:
            raise self.error

    def close(self) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class Collector:
    """A sink that remembers, can be slow and can fail in writing and in closing."""

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        fail_close: bool = False,
        pause: Callable[[], float] | None = None,
    ) -> None:
        self.results: list[Result] = []
        self.closed = 0
        self.fail_at, self.fail_close, self.pause = fail_at, fail_close, pause

    def write(self, result: Result) -> None:
        assert not self.closed
        if self.pause:
            time.sleep(self.pause())
        if result.frame.index == self.fail_at:
            raise SinkError("disk full; free some space")
        self.results.append(result)

    def close(self) -> None:
        self.closed += 1
        if self.fail_close:
            raise SinkError("cannot finish the file; free some space")

    @property
    def indices(self) -> list[int]:
        return [result.frame.index for result in self.results]


def index_of(tensor: Tensor) -> int:
    """The index of a clip's frame, which is its grey level."""
    return round(float(tensor.mean() * SPEC.std + SPEC.mean) * 255)


def run_loop(source: Any, sinks: Any, backend: Any = None, **options: Any) -> Report:
    """Replay with a fake engine unless another is given; ``stop`` and ``roi`` may be given as options."""
    stop = options.pop("stop", None) or threading.Event()
    segmenter = Segmenter(backend or FakeBackend(SPEC), options.pop("roi", None))
    return replay(source, segmenter, sinks, stop=stop, **options)


def loop_threads() -> list[threading.Thread]:
    """The threads of runs that have not ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("streamseg-")]
