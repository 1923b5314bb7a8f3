"""Measures the cost of the live loop against the bare engine, and that of displays and recordings.

    python -m benchmarks.live_rate [--quick] [--fps N ...] [--rounds R] [--seconds S] [--out DIR]

Regime: frames of a phantom (640x480) in memory, offered at a pace faster than the engine through the same
source that paces recordings; the default engine, all cores, nothing else running. Each round times in turn
(every other one backwards), in one process, with one and the same back end:

- ``engine``       the engine alone, one frame after another, on tensors made beforehand
- ``loop``         ``LiveLoop`` without a display: reader, preprocessing, engine, postprocessing, presenter
- ``+ web``        the same with the web page and one client in a process of its own, which answers every view
  at once (the page asks for 30 views a second at most)
- ``+ window``     the same with the window, 1280x720 under Xvfb, whose own share of the processor counts too
- ``+ recording``  the same with a recording of the image and of what is displayed

A rate is (n - 1) / span of the results of one block after its first second. A ratio is taken within a round;
printed are median, least and largest over the rounds. The first round warms up and is not counted. Processor
time is that of each thread during the block, per segmented frame; threads that Python did not start (the
engine's workers, OpenCV's, the encoder's) are counted together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from benchmarks.common import (
    REGION,
    Listener,
    MemorySource,
    images_of_phantom,
    live_segmenter,
    parser,
    publish,
    ratios,
    run_loop,
    spread,
    thread_seconds,
)
from streamseg.backends import load_backend
from streamseg.benchmark.provenance import ROOT, provenance
from streamseg.benchmark.rotation import Rotation, reraise
from streamseg.capture.paced import PacedSource
from streamseg.core.types import Frame, Grey, Result
from streamseg.core.view import Display, RunObserver
from streamseg.render.live import LivePainter
from streamseg.reporting.formatting import table
from streamseg.segmentation.segmenter import Segmenter
from tests.display.desktops import open_desktop

WARM_S = 1.0
GOAL_LOOP, GOAL_WEB = 0.85, 0.90

Outputs = tuple[list[Display], list[RunObserver]]
Block = Callable[[], "Rate"]


@dataclass(frozen=True, slots=True)
class Rate:
    """The speed of a block."""

    fps: float
    threads: dict[str, float] = field(default_factory=dict)
    """Milliseconds that each thread worked per frame."""


class Meter(Listener):
    """Counts results after the warm-up, and the processor time of the threads meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.times: list[int] = []
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self._begin_ns = time.monotonic_ns() + round(WARM_S * 1e9)
        self._end_ns = self._begin_ns + round(seconds * 1e9)

    def on_result(self, result: Result) -> None:
        now_ns = time.monotonic_ns()
        if not self._begin_ns <= now_ns or self.after:
            return
        self.times.append(now_ns)
        if not self.before:
            self.before = thread_seconds()
        elif now_ns >= self._end_ns:
            self.after = thread_seconds()

    def rate(self) -> Rate:
        """What was counted."""
        frames = len(self.times) - 1
        if frames < 2 or not self.after:
            raise SystemExit("too few frames in a block: give --seconds more")
        worked = {
            name: (seconds - self.before.get(name, 0.0)) * 1e3 / frames
            for name, seconds in self.after.items()
        }
        return Rate(frames * 1e9 / (self.times[-1] - self.times[0]), worked)


def main() -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--fps", type=float, nargs="*", default=[60.0, 240.0], help="paces of the source")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=3.0, help="length of a block after its first second")
    made.add_argument("--client", metavar="URL", help="answer the views of this page, and measure nothing")
    options = made.parse_args()
    if options.client:
        answer_views(options.client)
        return
    if options.quick:
        options.rounds, options.seconds, options.fps = 1, 1.5, options.fps[:1]
    images = images_of_phantom(120, 60.0)
    backend = load_backend()
    with backend_and_desktop() as desktop:
        segmenter = live_segmenter(backend)
        runs = {
            fps: measure(blocks(segmenter, images, fps, options, desktop), options) for fps in options.fps
        }
    result = {
        "what": "rate of the live loop",
        **provenance(backend),
        "rounds": options.rounds,
        "block_seconds": options.seconds,
        "picture": list(images[0].shape),
        "source_fps": {f"{fps:g}": summary(rates) for fps, rates in runs.items()},
    }
    publish("rate", result, report(result), options)


@contextmanager
def backend_and_desktop() -> Iterator[bool]:
    """Whether there is a desktop for the window; DISPLAY names it meanwhile."""
    if shutil.which("Xvfb") is None:
        yield False
        return
    with open_desktop() as desktop:
        os.environ["DISPLAY"] = f":{desktop.number}"
        yield True


def blocks(
    segmenter: Segmenter, images: Sequence[Grey], fps: float, options: argparse.Namespace, desktop: bool
) -> dict[str, Block]:
    """What is timed, by name."""
    tensors = [segmenter.prepare(Frame(image, 0, 0), REGION).tensor for image in images[:60]]

    def engine() -> Rate:
        return bare(segmenter, tensors, options.seconds)

    def live(outputs: Callable[[ExitStack], Outputs]) -> Block:
        return lambda: loop(segmenter, images, fps, options.seconds, outputs)

    found = {"engine": engine, "loop": live(lambda _: ([], [])), "+ web": live(web)}
    if desktop:
        found["+ window"] = live(window)
    return {**found, "+ recording": live(recording)}


def bare(segmenter: Segmenter, tensors: Sequence[Any], seconds: float) -> Rate:
    """The engine alone."""
    ends: list[int] = []
    stop_ns = time.monotonic_ns() + round(seconds * 1e9)
    while not ends or ends[-1] < stop_ns:
        segmenter.backend.infer(tensors[len(ends) % len(tensors)])
        ends.append(time.monotonic_ns())
    return Rate((len(ends) - 1) * 1e9 / (ends[-1] - ends[0]))


def loop(
    segmenter: Segmenter,
    images: Sequence[Grey],
    fps: float,
    seconds: float,
    outputs: Callable[[ExitStack], Outputs],
) -> Rate:
    """The live loop with these outputs."""
    with ExitStack() as opened:
        displays, observers = outputs(opened)
        meter = Meter(seconds)
        run_loop(
            lambda: PacedSource(MemorySource(images, fps)),
            segmenter,
            seconds=WARM_S + seconds + 0.5,
            displays=displays,
            observers=[*observers, meter],
        )
    return meter.rate()


def web(opened: ExitStack) -> Outputs:
    """The page with one client."""
    from streamseg.web import WebDisplay

    page = WebDisplay(port=0)
    opened.callback(page.close)
    opened.enter_context(connected(page.url))
    return [page], []


def window(opened: ExitStack) -> Outputs:
    """The window."""
    from streamseg.display import WindowDisplay

    return [WindowDisplay("streamseg benchmark")], []


def recording(opened: ExitStack) -> Outputs:
    """A recording as the live command makes it."""
    from streamseg.recording import Recorder

    folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="streamseg-rate-"))
    painter = LivePainter()
    return [], [
        Recorder(Path(folder), header={}, compose=lambda view, style: painter.paint(view, None, style))
    ]


def measure(timed: dict[str, Block], options: argparse.Namespace) -> dict[str, list[Rate]]:
    """Every block in each counted round."""
    rotation: Rotation[Rate] = Rotation(timed, on_failure=reraise)
    if not options.quick:
        rotation.warm_up(lambda name: timed[name]())
    rotation.run(lambda name: timed[name](), options.rounds)
    return rotation.results


def summary(rates: dict[str, list[Rate]]) -> dict[str, Any]:
    """Rates, ratios and processor time of one pace."""
    fps = {name: [rate.fps for rate in found] for name, found in rates.items()}
    shares = {f"{name} / loop": ratios(fps[name], fps["loop"]) for name in fps if name.startswith("+")}
    return {
        "fps": {name: spread(found) for name, found in fps.items()},
        "ratios": {"loop / engine": ratios(fps["loop"], fps["engine"]), **shares},
        "thread_ms_per_frame": {name: threads(found) for name, found in rates.items() if found[0].threads},
    }


def threads(rates: Sequence[Rate]) -> dict[str, float]:
    """Median milliseconds per frame of each thread that did anything."""
    names = {name for rate in rates for name in rate.threads}
    found = {name: statistics.median(rate.threads.get(name, 0.0) for rate in rates) for name in names}
    return {
        name: round(value, 2)
        for name, value in sorted(found.items(), key=lambda item: -item[1])
        if value > 0.02
    }


def report(result: dict[str, Any]) -> list[str]:
    """The tables."""
    lines = []
    for fps, found in result["source_fps"].items():
        lines += [f"Source at {fps} fps, {result['rounds']} rounds of {result['block_seconds']:g} s", ""]
        rows = [(name, v["median"], v["min"], v["max"]) for name, v in found["fps"].items()]
        lines += [*table(("variant", "frames/s median", "min", "max"), rows), ""]
        goals = {"loop / engine": f">= {GOAL_LOOP}", "+ web / loop": f">= {GOAL_WEB}"}
        ratio_rows = [
            (name, *(f"{v[key]:.3f}" for key in ("median", "min", "max")), goals.get(name, ""))
            for name, v in found["ratios"].items()
        ]
        lines += [*table(("ratio, within a round", "median", "min", "max", "goal"), ratio_rows), ""]
        for name, worked in found["thread_ms_per_frame"].items():
            each = ", ".join(f"{thread} {ms:.1f}" for thread, ms in worked.items())
            lines.append(f"- {name}, processor ms per frame: {each}")
        lines.append("")
    return lines[:-1]


def answer_views(url: str) -> None:
    """A web page's part of the conversation, without a browser: take every view and answer it at once.

    Prints ``connected`` once the server has greeted it, and the number of views and bytes at its end.
    """
    address = url.replace("http://", "ws://").rstrip("/") + "/ws"
    views = received = 0
    with connect(address, max_size=None, compression=None, close_timeout=0.2) as link:
        link.recv(timeout=10)
        print("connected", flush=True)
        try:
            for message in link:
                received += len(message)
                if isinstance(message, str):  # a sign of life
                    continue
                (length,) = struct.unpack_from("<I", message)
                body = json.loads(message[4 : 4 + length])
                views += 1
                link.send(json.dumps({"ack": body["view"], "age": None}))
        except ConnectionClosed:
            pass
    print(views, received, flush=True)


@contextmanager
def connected(url: str) -> Iterator[subprocess.Popen[str]]:
    """A client in a process of its own, connected."""
    command = [sys.executable, "-m", "benchmarks.live_rate", "--client", url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "connected":
            raise RuntimeError(f"no client could connect to {url}")
        yield process
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
