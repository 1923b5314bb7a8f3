"""Half an hour of the live loop with an engine at half the source's rate: does age or memory grow?

    python -m benchmarks.live_soak [--quick] [--source rtsp|memory] [--engine real|fake] [--seconds S]

Regime: frames of a phantom (640x480) at 30 fps, over a real RTSP server on this machine or from memory at
their own times; the default engine slowed to two frame intervals (66.7 ms) per frame, or a stand-in that only
sleeps; a display that draws the frame as the window does, into memory.

Age is from the frame's arrival (RTSP: of its first packet, so decoding is part of it) until the display has
drawn it with its outline; if that came too late to be displayed, until the outline was known. Its 99th
percentile must stay within twice the engine's time, decoding and one frame interval; decoding is measured in
the same run: the 99th percentile of the time from arrival until the loop got the frame. Memory is what the
process has in use (resident), each second; it grows by what the median of the last minute exceeds that of the
second minute. Threads are counted each second.

Writes the graph as SVG and PNG beside the table and the JSON.
"""

from __future__ import annotations

import argparse
import math
import statistics
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import (
    Listener,
    MemoryDisplay,
    MemorySource,
    Throttled,
    folder_of,
    images_of_phantom,
    live_segmenter,
    parser,
    percentiles,
    publish,
    resident_bytes,
    run_loop,
)
from benchmarks.live_age.sender import sending
from streamseg.backends import FakeBackend, load_backend
from streamseg.benchmark.provenance import machine_name, provenance
from streamseg.capture.live import CaptureOptions, open_live
from streamseg.capture.paced import PacedSource
from streamseg.core.types import Backend, Frame, Result, Source
from streamseg.core.view import View
from streamseg.live import LiveReport
from streamseg.render.live import LivePainter
from streamseg.reporting.formatting import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FPS = 30
ENGINE_S = 2 / FPS
BIN_S = 10.0
PATIENCE_S = 30.0
"""A stream that stands still for less does not end the run: the sender shares the machine."""
GROWTH_GOAL = 5e6
SIZE = 1280, 720


class DrawingDisplay(MemoryDisplay):
    """Draws each view as the window does, into memory."""

    def __init__(self) -> None:
        self._painter = LivePainter()

    def show(self, view: View) -> None:
        self._painter.paint(view, SIZE)


class Chronicle(Listener):
    """When each outline was displayed and how old it was; how long decoding took; memory and threads.

    For at most ``most`` frames.
    """

    def __init__(self, most: int) -> None:
        self.began_ns = time.monotonic_ns()
        # Arrays of their final size, which hardly count in the memory that is measured.
        self._moments, self._ages = np.zeros((2, most), np.int64)
        self.decoding = array("q")
        self.samples: list[tuple[float, int, int]] = []
        """Seconds since the start, resident bytes, threads."""
        self._last = -1
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="soak-sampler", daemon=True)
        self._sampler.start()

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        self.decoding.append(arrived_ns - frame.captured_ns)

    def on_result(self, result: Result) -> None:
        # Where the display was faster, what it knows counts.
        if not self._moments[result.frame.index]:
            self._note(result.frame, time.monotonic_ns())

    def on_view(self, view: View, shown_ns: int) -> None:
        if view.segmentation is not None and view.frame is not None and view.frame.index != self._last:
            self._last = view.frame.index
            self._note(view.frame, shown_ns)

    def _note(self, frame: Frame, moment_ns: int) -> None:
        self._ages[frame.index] = moment_ns - frame.captured_ns
        self._moments[frame.index] = moment_ns

    def ages(self) -> list[tuple[int, int]]:
        """Moment and age of each segmented frame, nanoseconds."""
        known = self._moments > 0
        return list(zip(self._moments[known].tolist(), self._ages[known].tolist(), strict=True))

    def _sample(self) -> None:
        while not self._closed.wait(1.0):
            seconds = (time.monotonic_ns() - self.began_ns) / 1e9
            self.samples.append((seconds, resident_bytes(), threading.active_count()))

    def close(self) -> None:
        self._closed.set()
        self._sampler.join(2)


def main() -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--source", choices=["rtsp", "memory"], default="rtsp")
    made.add_argument("--engine", choices=["real", "fake"], default="real")
    made.add_argument("--seconds", type=float, default=1800.0)
    options = made.parse_args()
    if options.quick:
        options.seconds = min(options.seconds, 30.0)
    backend = throttled(options.engine)
    segmenter = live_segmenter(backend)
    with opener_of(options.source) as opener:
        chronicle = Chronicle(round(1.5 * FPS * options.seconds) + 1000)
        report = run_loop(
            opener,
            segmenter,
            seconds=options.seconds,
            displays=[DrawingDisplay()],
            observers=[chronicle],
        )
    result = summary(chronicle, report, backend, options)
    publish("soak", result, lines(result), options)
    draw(result, options)


def throttled(kind: str) -> Backend:
    """The engine at half the source's rate."""
    real = load_backend()
    return FakeBackend(real.spec, delay_ms=ENGINE_S * 1e3) if kind == "fake" else Throttled(real, ENGINE_S)


@contextmanager
def opener_of(kind: str) -> Iterator[Callable[[], Source]]:
    """What opens the source."""
    if kind == "memory":
        images = images_of_phantom(4 * FPS, FPS)
        yield lambda: PacedSource(MemorySource(images, FPS))
        return
    patient = CaptureOptions(open_seconds=PATIENCE_S, read_seconds=PATIENCE_S)
    with sending(FPS) as url:
        yield lambda: open_live(url, patient)


def summary(
    chronicle: Chronicle, report: LiveReport, backend: Backend, options: argparse.Namespace
) -> dict[str, Any]:
    """All that is printed and stored."""
    ages = percentiles([age for _, age in chronicle.ages()])
    decoding = percentiles(chronicle.decoding)
    infer = report.stages["infer"]
    limit_ms = 2 * infer.p50_ms + decoding["p99_ms"] + 1e3 / FPS
    memory = growth(chronicle.samples)
    counts = [threads for seconds, _, threads in chronicle.samples if seconds > 5]
    return {
        "what": "soak of the live loop",
        **provenance(backend),
        "seconds": report.seconds,
        "source": options.source,
        "source_fps": FPS,
        "engine_ms": {"p50": infer.p50_ms, "p99": infer.p99_ms, "kind": options.engine},
        "offered": report.offered,
        "processed": report.processed,
        "dropped": report.dropped,
        "reconnects": report.reconnects,
        "states": {str(state): seconds for state, seconds in report.states.items()},
        "age_ms": ages,
        "decoding_ms": decoding,
        "limit_ms": limit_ms,
        "within_limit": ages["p99_ms"] <= limit_ms,
        "memory_growth_bytes": memory,
        "threads": {"min": min(counts, default=0), "max": max(counts, default=0)},
        "per_bin": bins(chronicle),
        "memory": [(round(seconds, 1), size) for seconds, size, _ in chronicle.samples],
    }


def growth(samples: list[tuple[float, int, int]]) -> float:
    """Bytes from the second minute's median to the last one's; of a short run, from its second quarter's."""
    end = samples[-1][0] if samples else 0.0
    first, last = ((60, 120), (end - 60, end)) if end >= 240 else ((end / 4, end / 2), (3 * end / 4, end))

    def median(between: tuple[float, float]) -> float:
        return statistics.median(size for s, size, _ in samples if between[0] <= s <= between[1])

    return median(last) - median(first)


def bins(chronicle: Chronicle) -> list[dict[str, float]]:
    """Percentiles of age per ten seconds."""
    found: dict[int, list[int]] = {}
    for moment, age in chronicle.ages():
        found.setdefault(int((moment - chronicle.began_ns) / 1e9 / BIN_S), []).append(age)
    return [{"second": number * BIN_S, **percentiles(ages)} for number, ages in sorted(found.items())]


def lines(result: dict[str, Any]) -> list[str]:
    """The table."""
    age, decoding, threads = result["age_ms"], result["decoding_ms"], result["threads"]
    mega = result["memory_growth_bytes"] / 1e6
    ages = " / ".join(f"{age[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
    frames = " / ".join(str(result[name]) for name in ("offered", "processed", "dropped"))
    states = ", ".join(f"{state} {seconds:.1f}" for state, seconds in result["states"].items())
    rows: list[tuple[object, ...]] = [
        ("frames offered / segmented / dropped", frames),
        ("reconnects", result["reconnects"]),
        ("engine, p50", f"{result['engine_ms']['p50']:.1f} ms"),
        (
            "arrival until the loop has the frame, p50 / p99",
            f"{decoding['p50_ms']:.1f} / {decoding['p99_ms']:.1f} ms",
        ),
        ("age at display, p50 / p95 / p99 / max", f"{ages} ms"),
        (
            "limit of its p99: 2 engine times, decoding, one interval",
            f"{result['limit_ms']:.1f} ms: {_kept(result['within_limit'])}",
        ),
        (
            f"growth of memory (limit {GROWTH_GOAL / 1e6:.0f} MB)",
            f"{mega:+.1f} MB: {_kept(result['memory_growth_bytes'] < GROWTH_GOAL)}",
        ),
        ("threads, least / most", f"{threads['min']} / {threads['max']}"),
        ("seconds per state", states),
    ]
    title = (
        f"{result['seconds']:.0f} s at {FPS} fps, {result['source']}, {result['engine_ms']['kind']} engine"
    )
    return [title, "", *table(("what", "measured"), rows)]


def _kept(kept: bool) -> str:
    return "kept" if kept else "EXCEEDED"


def draw(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Age and memory over time, SVG and PNG."""
    folder = folder_of(options)
    if folder is None:
        return
    from streamseg.reporting.charts import blank, png, style, svg

    stem = f"{result['date']}-{machine_name()}-live-soak"
    with style():
        drawing = blank(5.0)
        _draw(result, *drawing.subplots(2, 1, sharex=True))
        (folder / f"{stem}.svg").write_bytes(svg(drawing))
        (folder / f"{stem}.png").write_bytes(png(drawing))


def _draw(result: dict[str, Any], above: Axes, below: Axes) -> None:
    """Age on top, memory below."""
    minutes = [(one["second"] + BIN_S / 2) / 60 for one in result["per_bin"]]
    for name, colour in (("p50", "#0072B2"), ("p95", "#E69F00"), ("p99", "#D55E00")):
        above.plot(minutes, [one[f"{name}_ms"] for one in result["per_bin"]], color=colour, label=name)
    above.axhline(result["limit_ms"], color="black", linestyle="--", linewidth=1, label="limit for p99")
    above.set(ylabel="age at display, ms (per 10 s)", ylim=(0, None))
    above.set_title(f"Live loop, engine at half the source's rate ({FPS} fps, {result['source']})")
    above.legend(loc="lower right", ncols=4, frameon=False)
    memory = np.array(result["memory"], float)
    below.plot(memory[:, 0] / 60, memory[:, 1] / 1e6, color="#009E73")
    top = max(100.0, math.ceil(memory[:, 1].max() / 1e8) * 100)
    below.set(ylabel="memory, MB", xlabel="minutes", ylim=(0, top), xlim=(0, result["seconds"] / 60))
    for axis in (above, below):
        axis.grid(alpha=0.3)


if __name__ == "__main__":
    main()
