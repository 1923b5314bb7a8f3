"""Fakes for tests of the benchmark: engines that know their delays, a small clip, made-up outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import FrameTrace, RunOutcome, Span
from streamseg.benchmark.limits import Kernel
from streamseg.benchmark.live_probe import LiveOutcome, Offer
from streamseg.benchmark.nets.schedule import Schedule
from streamseg.benchmark.nets.variants import InputShape, Variant, VariantSpec
from streamseg.benchmark.peers.peer import Peer
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.capture import open_source
from streamseg.core.types import Frame, InputSpec, Result, Roi, State, Tensor
from streamseg.sinks.encoder import Encoder
from streamseg.sinks.target import Target

MS = 1_000_000
SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
HEIGHT, WIDTH, FRAMES, RATE = 96, 160, 12, 30
"""Of the small clip."""
REGION = Roi(16, 8, 128, 80)
SHORT = Schedule(
    rounds=2, least_rounds=1, budget_seconds=60.0, block_seconds=0.06, end_to_end_seconds=0.05,
    paced_seconds=0.2, images=2, untrained_images=1, calibration_frames=2, untrained_calibration_frames=2,
    stall_seconds=60.0, starts=False, paces_fps=(), clip_frames=8,
)  # fmt: skip


class Clock:
    """A clock that stands still until it is moved: nanoseconds when called."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def work(self, *milliseconds: float) -> Callable[[], None]:
        """A call that takes these times, one after the other and again."""
        calls = [0]

        def call() -> None:
            self.ns += round(milliseconds[calls[0] % len(milliseconds)] * MS)
            calls[0] += 1

        return call


class SelfTimed(FakeBackend):
    """Records the duration of each of its calls. The delays are taken in turn, milliseconds; ``act`` is
    called with the number of each call."""

    def __init__(
        self, delays: Sequence[float] = (0.0,), act: Callable[[int], object] = lambda call: None
    ) -> None:
        super().__init__(SPEC)
        self.delays, self.act = delays, act
        self.durations_ms: list[float] = []

    def infer(self, tensor: Any) -> Any:
        began = time.monotonic_ns()
        call = len(self.durations_ms)
        self.act(call)
        time.sleep(self.delays[min(call, len(self.delays) - 1)] / 1e3)
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


class Repeater:
    """A sink or observer between the loop and the benchmark that drops or repeats what it is given."""

    def __init__(self, inner: Any, times: Callable[[int], int]) -> None:
        self.name = getattr(inner, "name", "observer")
        self.inner, self.times, self.count = inner, times, -1

    def write(self, result: Result) -> None:
        self._hand_on(self.inner.write, result)

    def on_result(self, result: Result) -> None:
        self._hand_on(self.inner.on_result, result)

    def _hand_on(self, receive: Callable[[Result], None], result: Result) -> None:
        self.count += 1
        for _ in range(self.times(self.count)):
            receive(result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def write_clip(path: Path, frames: int = FRAMES) -> Path:
    """Write an H.264 file of grey noise that moves."""
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    encoder = Encoder(Target(path, force=True), HEIGHT, WIDTH, Fraction(1, RATE), Fraction(RATE))
    for number in range(frames):
        encoder.encode(np.roll(noise, number, axis=1), Fraction(number, RATE))
    encoder.close()
    return path


def read_clip(path: Path) -> Clip:
    """A clip by :func:`write_clip`, in memory."""
    with open_source(path) as source:
        frames = tuple(source)
    return Clip(str(path), path.name, frames, REGION, synthetic=False, rate=RATE)


def noise_clip(frames: int = 8) -> Clip:
    """Grey noise that moves, only in memory."""
    noise = np.random.default_rng(1).integers(0, 255, (48, 64), np.uint8)
    images = tuple(Frame(np.roll(noise, number, axis=1), number, 0) for number in range(frames))
    return Clip("", "noise", images, None, synthetic=True, rate=30.0)


def trace(index: int, captured_ms: float, age_ms: float, *, displayed: bool = True) -> FrameTrace:
    """A frame that was in the net from its capture to its end."""
    captured, end = round(captured_ms * MS), round((captured_ms + age_ms) * MS)
    return FrameTrace(index, captured, (Span("infer", captured, end),), end, displayed)


def outcome(*ages_ms: float, fps: float | None = 20.0, notes: tuple[str, ...] = ()) -> RunOutcome:
    """A replay with frames of these ages, one every 50 ms, and one that was dropped."""
    return RunOutcome(
        offered=len(ages_ms) + 1,
        traces=tuple(trace(k, k * 50, age) for k, age in enumerate(ages_ms)),
        fps=fps,
        states={State.NERVE: len(ages_ms)},
        notes=notes,
    )


def live_outcome(
    processed: int = 30,
    *,
    offered: int = 30,
    in_time: int | None = None,
    age_ms: float = 20,
    displayed: int | None = None,
    offer: Offer | None = None,
) -> LiveOutcome:
    """A live run of one second: by default every frame is segmented, in time, and displayed."""
    offer = offer or Offer()
    shown, timely = (processed if value is None else value for value in (displayed, in_time))
    late_ms = offer.budget_s * 1e3 + 100
    return LiveOutcome(
        offered=offered,
        traces=tuple(
            trace(k, k * 33, age_ms if k < timely else late_ms, displayed=k < shown) for k in range(processed)
        ),
        fps=None,
        states={},
        offer=offer,
        seconds=1.0,
    )


class FakeNet(FakeBackend):
    """Records the duration of each call from the benchmark's own thread: a busy machine sleeps longer."""

    def __init__(
        self,
        *,
        found: dict[str, float] | None = None,
        batch: int = 1,
        delay_ms: float = 10,
        **options: Any,
    ) -> None:
        super().__init__(SPEC, delay_ms=delay_ms, batch=batch, **options)
        self.took_ns: list[int] = []
        self.before: Callable[[int], None] = lambda call: None
        self._found = {"fp32": 1.0} if found is None else found

    def infer(self, tensor: Tensor) -> Any:
        began = time.monotonic_ns()
        self.before(self.calls)
        found = super().infer(tensor[:1])
        if self.info.batch > 1:
            found = np.repeat(found[None], self.info.batch, axis=0)
        if threading.current_thread().name == "streamseg-bench":
            self.took_ns.append(time.monotonic_ns() - began)
        return found

    def precision_found(self) -> dict[str, float]:
        return self._found


def variant(
    fake: FakeBackend, backend: str = "openvino", precision: str = "fp32", *, folded: bool = True
) -> Variant:
    shape = InputShape("improved_unet", SPEC.height, SPEC.width, fake.info.batch)
    spec = VariantSpec(backend, precision, folded)
    return Variant(shape, spec, fake, True, "built", 1000, build_s=1.5)


def eager(fake: FakeBackend | None = None) -> Variant:
    return variant(fake or FakeNet(delay_ms=20, name="eager"), "eager", folded=False)


@pytest.fixture(autouse=True, scope="module")
def small_kernels() -> Iterator[None]:
    """One kernel in place of the machine's real limits, which take seconds."""
    kernel = Kernel("small product", "fp32", 1e6, lambda: sum(range(1000)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamseg.benchmark.limits.kernels_of", lambda threads, gpu: [kernel])
        yield


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of a report's words and tables: drawing takes seconds."""
    for module, names in (
        ("nets_charts", ("overview", "histograms", "peers_charts")),
        ("live_charts", ("pipeline_charts", "streams_charts")),
    ):
        for name in names:
            monkeypatch.setattr(f"streamseg.benchmark.report.{module}.{name}", lambda *arguments: [])


def peer(
    name: str,
    against: str,
    precision: str,
    call: Callable[[], int],
    *,
    frames: int = 1,
    delivered: Callable[[], int] | None = None,
    **known: Any,
) -> Peer:
    """A peer that is made up."""
    row = PeerRow(
        name=name, ours=name == against, against=against, precision=precision, frames=frames, **known
    )
    return Peer(row, call, delivered)
