"""Fake sources, sinks, displays, observers and engines, and runs of both loops with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from streamseg.backends import FakeBackend
from streamseg.core.errors import SinkError, SourceCut, SourceError, StreamsegError
from streamseg.core.types import Frame, InputSpec, Result, SourceInfo, Tensor
from streamseg.core.view import Command, View
from streamseg.live import LiveLoop, LiveOptions, LiveReport
from streamseg.pipeline.replay import Report, replay
from streamseg.segmentation.segmenter import Segmenter

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
SHAPE = (64, 96)


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


def run_replay(source: Any, sinks: Any, backend: Any = None, **options: Any) -> Report:
    """Replay with a fake engine unless another is given; ``stop`` and ``roi`` may be given as options."""
    stop = options.pop("stop", None) or threading.Event()
    segmenter = Segmenter(backend or FakeBackend(SPEC), options.pop("roi", None))
    return replay(source, segmenter, sinks, stop=stop, **options)


def loop_threads() -> list[threading.Thread]:
    """The threads of runs that have not ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("streamseg-")]


@dataclass(frozen=True)
class Act:
    """What a source does next: wait, then give a frame, fail, hang or end."""

    wait_s: float = 0.0
    what: str = "frame"
    shape: tuple[int, int] = SHAPE
    age_s: float = 0.0
    """How long before it arrives a frame was captured."""


def number_of(image: np.ndarray) -> int:
    """The number that is drawn into an image as 16 bright or dark stripes."""
    stripes = np.array_split(image[image.shape[0] // 2], 16)
    return sum(1 << bit for bit, stripe in enumerate(stripes) if stripe[len(stripe) // 2] > 128)


def numbered_image(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """An image that shows its number."""
    row = np.concatenate(
        [
            np.full(len(part), 200 if number >> bit & 1 else 50, np.uint8)
            for bit, part in enumerate(np.array_split(np.arange(shape[1]), 16))
        ]
    )
    return np.ascontiguousarray(np.broadcast_to(row, shape))


class Script:
    """Opens sources that play a list of acts, one source after another; counts the frames over all."""

    def __init__(self, *plays: Sequence[Act], live: bool = True) -> None:
        self.plays = list(plays)
        self.opened = 0
        self.given = 0
        self.live = live

    def __call__(self) -> ScriptedSource:
        if self.opened >= len(self.plays):
            raise SourceError("nothing answers at this address; check the cable")
        acts = self.plays[self.opened]
        self.opened += 1
        if acts and acts[0].what == "refuse":
            raise SourceError("connection refused; is the server on?")
        return ScriptedSource(self, acts)


class ScriptedSource:
    """One opening of a :class:`Script`."""

    def __init__(self, script: Script, acts: Sequence[Act]) -> None:
        self.script, self.acts, self.live = script, acts, script.live
        self.info = SourceInfo("script", *SHAPE)
        self.closed = threading.Event()
        self.clock_note = ""
        self.trouble: Exception | None = None
        """What the source raises at the end of its acts, or when it is closed."""
        self.trouble_in_close = False
        self.blank = False
        """Give frames without any image."""

    def __iter__(self) -> Iterator[Frame]:
        for act in self.acts:
            self.closed.wait(act.wait_s)
            if self.closed.is_set():
                return
            if act.what == "fail":
                raise SourceError("the cable was pulled; put it back")
            if act.what == "hang":
                time.sleep(0.5)
                continue
            number, self.script.given = self.script.given, self.script.given + 1
            captured_ns = time.monotonic_ns() - round(act.age_s * 1e9)
            image = np.zeros(act.shape, np.uint8) if self.blank else numbered_image(number, act.shape)
            yield Frame(image, number, captured_ns)
        if self.trouble is not None and not self.trouble_in_close:
            raise self.trouble

    def close(self) -> None:
        self.closed.set()
        if self.trouble is not None and self.trouble_in_close:
            raise self.trouble

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Memory:
    """A display that remembers every view and when it was on display."""

    name = "memory"

    def __init__(self, pause: Callable[[], float] | None = None, commands: dict[int, Command] | None = None):
        self.shown: list[tuple[View, int]] = []
        self.closed = 0
        self._pause, self._commands = pause, dict(commands or {})

    def show(self, view: View) -> None:
        if self._pause:
            time.sleep(self._pause())
        self.shown.append((view, time.monotonic_ns()))

    def poll(self) -> list[Command]:
        command = self._commands.pop(len(self.shown), None)
        return [] if command is None else [command]

    def close(self) -> None:
        self.closed += 1

    @property
    def states(self) -> list[str]:
        """The states that were shown, each once for as long as it lasted."""
        states = [str(view.state) for view, _ in self.shown]
        return [state for before, state in zip([None, *states], states, strict=False) if state != before]


class Notes:
    """A run observer that remembers."""

    def __init__(self) -> None:
        self.frames: list[tuple[Frame, int]] = []
        self.results: list[Result] = []
        self.views: list[tuple[View, int]] = []
        self.closed = 0

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        self.frames.append((frame, arrived_ns))

    def on_result(self, result: Result) -> None:
        self.results.append(result)

    def on_view(self, view: View, shown_ns: int) -> None:
        self.views.append((view, shown_ns))

    def close(self) -> None:
        self.closed += 1


class Numbered(FakeBackend):
    """An engine that hides the number of the frame that it saw in its map, beside a blob."""

    def __init__(self, delays_s: Sequence[float] = (0.0,), fail_at: int | None = None) -> None:
        super().__init__(SPEC, self._mark, fail_at=fail_at)
        self._delays = delays_s

    def _mark(self, tensor: Tensor) -> np.ndarray:
        time.sleep(self._delays[self.calls % len(self._delays)])
        grey = np.round((tensor[0, 0] * SPEC.std + SPEC.mean) * 255)
        map_ = np.full((SPEC.height, SPEC.width), 0.01, np.float32)
        map_[8:24, 8:24] = 0.9
        # The number itself, hidden in probabilities that are far below any threshold.
        map_[0, 0] = 0.1 + number_of(grey) / 1e6
        return map_


def marked_number(view: View) -> int:
    """The number of the frame from which a view's outline was computed."""
    assert view.segmentation is not None
    assert view.segmentation.probability is not None
    return round((float(view.segmentation.probability[0, 0]) - 0.1) * 1e6)


def run_live(
    script: Script,
    *,
    backend: FakeBackend | None = None,
    display: Memory | None = None,
    stop: threading.Event | None = None,
    observers: Sequence[Notes] = (),
    **options: object,
) -> tuple[LiveReport, Memory]:
    """A live run with a display that remembers; options are those of LiveOptions. Raises its error."""
    display = display or Memory()
    chosen = LiveOptions(**{"retry_delays_s": (0.02, 0.05), **options})  # type: ignore[arg-type]
    segmenter = Segmenter(backend or Numbered())
    loop = LiveLoop(script, segmenter, chosen, displays=[display], observers=observers)
    report = loop.run(stop or threading.Event())
    if isinstance(report.error, StreamsegError):
        raise report.error
    assert report.error is None, report.error
    return report, display
