"""Shared by the live benchmarks: images with a bar code of their send time, observers, and publishing.

They run as modules from the repository's root (``python -m benchmarks.live_rate``), because they use the
stand-ins of the tests: an RTSP server, a desktop, an emulated grabber.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.benchmark.clip import FrameSource
from streamseg.benchmark.provenance import ROOT, machine_name
from streamseg.benchmark.rows.run import Spread, write_result
from streamseg.capture.screen.region import ImageRegion
from streamseg.cli.console import limit_opencv_threads, share_one_heap
from streamseg.core.latency import Percentiles
from streamseg.core.types import Backend, Frame, Grey, Image, Result, Roi, Source
from streamseg.core.view import Command, Display, RunObserver, View
from streamseg.live import LiveLoop, LiveOptions, LiveReport
from streamseg.phantom import PhantomVideo
from streamseg.segmentation.segmenter import Segmenter
from tests.rtsp_server import barcode

RESULTS = ROOT / "benchmarks" / "results"
SEED = 3
HEIGHT, WIDTH = 480, 640
"""Of an image: the bar code on top, the phantom below it."""
BAND = 2 * barcode.MODULE
"""Rows of the bar code."""
REGION = Roi(0, BAND, WIDTH, HEIGHT - BAND)
"""The phantom, which is what the net sees."""


def images_of_phantom(count: int, fps: float) -> list[Grey]:
    """Images of a phantom video with room for the bar code, grey (480, 640)."""
    video = PhantomVideo(SEED, height=REGION.height, width=REGION.width, fps=fps, nerve=True)
    empty = np.zeros((BAND, WIDTH), np.uint8)
    return [np.vstack([empty, video.frame(number).image]) for number in range(count)]


def stamped(image: Grey, moment_ns: int) -> Grey:
    """A copy that shows a monotonic time in its band, to the microsecond."""
    marked = image.copy()
    marked[:BAND] = barcode.draw(moment_ns // 1000, BAND, WIDTH)
    return marked


def stamp_of(image: Image) -> int | None:
    """The monotonic nanoseconds that an image (or its band) shows; None if they cannot be read."""
    micros = barcode.read(image[:BAND])
    return None if micros is None else micros * 1000


class MemorySource(FrameSource):
    """Images of a known scale from memory, over and over."""

    def __init__(self, images: Sequence[Grey], fps: float, count: int | None = None) -> None:
        super().__init__([Frame(image, 0, 0, spacing_mm=(0.1, 0.1)) for image in images], fps, count)


class Throttled:
    """A back end that takes at least ``least_s`` for an answer: an engine of a known speed."""

    def __init__(self, inner: Backend, least_s: float) -> None:
        self.name, self.fingerprint, self.spec = inner.name, inner.fingerprint, inner.spec
        self.inner, self.least_s = inner, least_s

    def infer(self, tensor: Any) -> Any:
        began = time.monotonic()
        probability = self.inner.infer(tensor)
        time.sleep(max(0.0, began + self.least_s - time.monotonic()))
        return probability

    def close(self) -> None:
        self.inner.close()


def live_segmenter(backend: Backend) -> Segmenter:
    """A warm segmenter with steady outlines, in a process that is set up as by the live command."""
    share_one_heap()
    limit_opencv_threads()
    return Segmenter.for_live(backend)


def run_loop(
    opener: Callable[[], Source],
    segmenter: Segmenter,
    *,
    seconds: float,
    displays: Sequence[Display] = (),
    observers: Sequence[RunObserver] = (),
    age_budget_s: float = 0.15,
) -> LiveReport:
    """Run the live loop on the phantom's region. Raises what ended it before its time."""
    options = LiveOptions(age_budget_s=age_budget_s, seconds=seconds)
    report = LiveLoop(
        opener, segmenter, options, region=ImageRegion(REGION), displays=displays, observers=observers
    ).run(threading.Event())
    if report.error is not None:
        raise report.error
    return report


class MemoryDisplay:
    """A display in memory; a base class."""

    name = "memory"

    def show(self, view: View) -> None:
        """Draw a view."""

    def poll(self) -> list[Command]:
        """There are no commands."""
        return []

    def close(self) -> None:
        """Nothing to release."""


class Listener:
    """A run observer that ignores everything; to be built upon."""

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        """A frame arrived."""

    def on_result(self, result: Result) -> None:
        """A frame was segmented."""

    def on_view(self, view: View, shown_ns: int) -> None:
        """A view was displayed."""

    def close(self) -> None:
        """The run is over."""


class OutlineObserver(Listener):
    """Remembers each outline that was displayed: when, when its frame was captured, and its bar code."""

    def __init__(self) -> None:
        self.shown_ns: list[int] = []
        self.captured_ns: list[int] = []
        self._bands: list[Grey] = []
        self._last = -1

    def on_view(self, view: View, shown_ns: int) -> None:
        if view.segmentation is None or view.frame is None or view.frame.index == self._last:
            return
        self._last = view.frame.index
        self.shown_ns.append(shown_ns)
        self.captured_ns.append(view.frame.captured_ns)
        band = view.frame.image[:BAND]
        # Read later: it would take the display's thread half a millisecond now.
        self._bands.append(np.asarray(band if band.ndim == 2 else band[..., 1]).copy())

    def stamps_ns(self) -> list[int | None]:
        """What the bar codes say."""
        return [stamp_of(band) for band in self._bands]


def thread_seconds() -> dict[str, float]:
    """Processor seconds of every thread of this process so far, by name; those that Python did not start
    (the engine's) are together under ``engine threads``, unless they are OpenCV's or FFmpeg's."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            nanoseconds = int((task / "schedstat").read_text(encoding="ascii").split()[0])
        except OSError:  # it has just ended
            continue
        name = names.get(int(task.name), "engine threads")
        found[name] = found.get(name, 0.0) + nanoseconds / 1e9
    return found


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    found: dict[str, float] = Spread.of(values).to_json()
    return found


def ratios(upper: Sequence[float], lower: Sequence[float]) -> dict[str, float]:
    """The spread of the ratios within each round."""
    return spread([a / b for a, b in zip(upper, lower, strict=True)])


def percentiles(times_ns: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max in milliseconds, and how many times there were."""
    found = Percentiles.of([round(value) for value in times_ns])
    names = ("count", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    return {name: round(getattr(found, name), 3) for name in names}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    made.add_argument("--out", type=Path, help="folder for the results; default: benchmarks/results")
    return made


def folder_of(options: argparse.Namespace) -> Path | None:
    """Where results go; a quick run, or one of a part, writes only where ``--out`` is given."""
    part = options.quick or getattr(options, "only", None)
    chosen: Path | None = options.out
    return chosen or (None if part else RESULTS)


def publish(what: str, result: Mapping[str, Any], lines: Sequence[str], options: argparse.Namespace) -> None:
    """Print the tables, and write them and the JSON to the folder of :func:`folder_of`."""
    print("\n".join(lines), flush=True)
    folder = folder_of(options)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{result['date']}-{machine_name()}-live-{what}"
        write_result(stem, result, lines)
        print(f"\nwrote {stem}.json and .md")
