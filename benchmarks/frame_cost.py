"""Measures the processor time of a frame, stage by stage, and what surrounds the net in all.

    python -m benchmarks.frame_cost [CLIP ...] [--quick] [--rounds R] [--engine NAME] [--rates]
                                    [--picture FILE.svg] [--out DIR]

Regime: recorded clips (without any, a phantom clip of 1024x768), read from their files, OpenCV in one thread.
Processor time, not wall time, so that other work on the machine matters little; medians over rounds in which
all variants take turns (every other one backwards). The first round warms up and is not counted.

- ``PyAV, luma alone``  decoding in one thread, and a view of the luma plane: what nobody can avoid
- ``decode``            our source, every frame of it
- ``replay``            ``Replay`` with records, the image followed on the screen, with an engine that returns
  planes that the real one gave beforehand: the whole process less ``decode`` is what surrounds the net
- ``live``              ``LiveLoop`` without a display, frames offered at 60 a second from a file, the same
  engine; of it the source's thread is ``decode``, and the rest surrounds the net

The stages are timed one after another in one thread (``time.thread_time``), each in every frame of a clip,
with the real engine's planes; they lack what handing over between threads costs.

With ``--rates``, frames per second too, which needs a quiet machine: the engine alone, frame after frame and
with as many at a time as it takes (``engine``), the decoder alone, and a replay with records and that engine.
All share the cores: even with nothing else around them, a replay cannot be faster than ``bound``, all cores
divided by the processor time of engine and decoder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2  # noqa: F401  # before PyAV

# isort: split
import av
import numpy as np

from benchmarks.common import parser, publish, spread
from streamseg.backends.loading import load_backend
from streamseg.benchmark.clip import open_clip
from streamseg.benchmark.frame_trace import LoopedClip
from streamseg.benchmark.provenance import provenance
from streamseg.benchmark.rotation import Rotation, reraise
from streamseg.capture import open_source
from streamseg.capture.paced import PacedSource
from streamseg.capture.screen.region import ImageRegion
from streamseg.cli.console import limit_opencv_threads
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import Backend, Frame, Planes, Result, Source, Tensor
from streamseg.live import LiveLoop, LiveOptions
from streamseg.live.freeze_detector import FreezeDetector
from streamseg.pipeline.replay import Replay
from streamseg.reporting.charts import DARK, GREY, blank, style, svg
from streamseg.segmentation.ood_detector import OutOfDistributionDetector, is_coloured
from streamseg.segmentation.postprocess import postprocess
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter
from streamseg.sinks import JsonRecords
from streamseg.sinks.records import frame_record, json_line

FRAMES = 240
"""Of a clip, read over and over."""
LIVE_FPS = 60


class Replayed:
    """A back end that gives planes which a real one gave beforehand, in order, over and over."""

    def __init__(self, real: Backend, planes: Sequence[Planes]) -> None:
        self.name, self.fingerprint, self.spec = real.name, real.fingerprint, real.spec
        self._planes, self._calls = planes, 0

    def infer(self, tensor: Tensor) -> Planes:
        """The next planes; a copy, as real ones are."""
        self._calls += 1
        return self._planes[(self._calls - 1) % len(self._planes)].copy()

    def close(self) -> None:
        """Nothing to release."""


class Clip:
    """A clip with everything that a measurement needs to begin at once."""

    def __init__(self, uri: str, name: str, frames: int, engine: Backend) -> None:
        self.uri, self.name, self.frames = uri, name, frames
        self.engine = engine
        with open_source(uri) as source:
            self.info = source.info
        segmenter = Segmenter(engine, self.region().roi)
        self.planes: list[Planes] = []
        with open_source(uri) as source:
            for frame in source:
                self.planes.append(segmenter.infer(segmenter.prepare(frame)))
                if len(self.planes) == frames:
                    break

    def region(self) -> ImageRegion:
        """A region policy that has seen no frame yet."""
        return ImageRegion.of_recording(self.info, partial(open_source, self.uri))

    def source(self) -> Source:
        """Its frames, again and again up to their number."""
        return LoopedClip(self.uri, self.frames)

    def segmenter(self, **options: Any) -> Segmenter:
        """With the engine that knows the answers."""
        return Segmenter(Replayed(self.engine, self.planes), **options)


@contextmanager
def processor_ms(found: dict[str, float], name: str, frames: int) -> Iterator[None]:
    """Processor time of the whole process in the block, ms per frame."""
    began = time.process_time()
    yield
    found[name] = (time.process_time() - began) * 1e3 / frames


def luma_alone(clip: Clip) -> float:
    """PyAV's decoding, ms per frame."""
    done, found = 0, dict[str, float]()
    with processor_ms(found, "it", clip.frames):
        while done < clip.frames:
            with av.open(clip.uri) as container:
                stream = container.streams.video[0]
                stream.thread_type = "NONE"
                for frame in container.decode(stream):
                    np.frombuffer(frame.planes[0], np.uint8)  # type: ignore[call-overload]
                    done += 1
                    if done == clip.frames:
                        break
    return found["it"]


def decode(clip: Clip) -> float:
    """Our source, ms per frame."""
    found = dict[str, float]()
    with clip.source() as source, processor_ms(found, "it", clip.frames):
        for _ in source:
            pass
    return found["it"]


def replayed(clip: Clip) -> float:
    """A replay with records, ms per frame."""
    region, found = clip.region(), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="streamseg-cost-") as folder, clip.source() as source:
        sink = JsonRecords(Path(folder) / "records.jsonl", header={})
        run = Replay(clip.segmenter(), [sink], locate=region.locate_recorded)
        with processor_ms(found, "it", clip.frames):
            report = run.run(source, threading.Event())
    if report.error is not None or report.frames != clip.frames:
        raise SystemExit(f"the replay of {clip.name} gave {report.frames} frames: {report.error}")
    return found["it"]


class _OwnThread(PacedSource):
    """A source that offers a clip's frames at a steady pace, and knows the processor time of its reading."""

    def __init__(self, clip: Clip) -> None:
        self.seconds = 0.0
        super().__init__(_Numbered(clip, self))


class _Numbered:
    """Frames with steady times. The thread that reads them notes its processor time."""

    live = False

    def __init__(self, clip: Clip, owner: _OwnThread) -> None:
        self._inner, self._owner = clip.source(), owner
        self.info = self._inner.info

    def __iter__(self) -> Iterator[Frame]:
        began = time.thread_time()
        for number, frame in enumerate(self._inner):
            self._owner.seconds = time.thread_time() - began
            yield replace(frame, pts_seconds=number / LIVE_FPS)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> _Numbered:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def live(clip: Clip) -> float:
    """The live loop without the thread that decodes, ms per frame that was segmented."""
    source, found = _OwnThread(clip), dict[str, float]()
    loop = LiveLoop(
        lambda: source, clip.segmenter(steady=TemporalFilter()), LiveOptions(), region=clip.region()
    )
    began = time.process_time()
    report = loop.run(threading.Event())
    if report.error is not None:
        raise report.error
    found["it"] = (time.process_time() - began - source.seconds) * 1e3 / max(1, report.processed)
    return found["it"]


def engine_alone(clip: Clip, engine: Backend, tensors: Sequence[Tensor]) -> tuple[float, float]:
    """Frames per second, and processor ms per frame, of an engine that all its lanes call."""
    lanes = EngineInfo.of(engine).lanes
    numbers = iter(range(clip.frames))
    lock = threading.Lock()

    def call(_: int) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            engine.infer(tensors[number % len(tensors)])

    began, worked = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(call, range(lanes)))
    seconds, worked = time.monotonic() - began, time.process_time() - worked
    return clip.frames / seconds, worked * 1e3 / clip.frames


def rates(clip: Clip, many: Backend, rounds: int) -> dict[str, Any]:
    """Frames per second of the parts and of the whole."""
    segmenter = Segmenter(many)
    roi = clip.region().roi
    with clip.source() as source:
        tensors = [segmenter.prepare(next(iter(source)), roi).tensor for _ in range(32)]
    worked: list[float] = []

    def engine() -> float:
        fps, ms = engine_alone(clip, many, tensors)
        worked.append(ms)
        return fps

    def decoder() -> float:
        began = time.monotonic()
        with clip.source() as source:
            for _ in source:
                pass
        return clip.frames / (time.monotonic() - began)

    def whole() -> float:
        region = clip.region()
        with tempfile.TemporaryDirectory(prefix="streamseg-cost-") as folder, clip.source() as source:
            sink = JsonRecords(Path(folder) / "records.jsonl", header={})
            done = Replay(Segmenter(many), [sink], locate=region.locate_recorded).run(
                source, threading.Event()
            )
        return done.fps or 0.0

    timed: dict[str, Callable[[], float]] = {
        "engine, frame after frame": lambda: engine_alone(clip, clip.engine, tensors)[0],
        "engine": engine,
        "decoder": decoder,
        "replay": whole,
    }
    rotation: Rotation[float] = Rotation(timed, on_failure=reraise)
    rotation.warm_up(lambda name: timed[name]())
    worked.clear()
    rotation.run(lambda name: timed[name](), rounds)
    found = rotation.results
    ms = statistics.median(worked)
    bounds = [(os.cpu_count() or 1) * 1e3 / (ms + decode(clip)) for _ in range(rounds)]
    least = [min(a, b) for a, b in zip(found["engine"], found["decoder"], strict=True)]
    return {
        "fps": {name: spread(values) for name, values in {**found, "bound": bounds}.items()},
        "replay_over_least": spread([a / b for a, b in zip(found["replay"], least, strict=True)]),
        "replay_over_bound": spread([a / b for a, b in zip(found["replay"], bounds, strict=True)]),
    }


VARIANTS: dict[str, Callable[[Clip], float]] = {
    "PyAV, luma alone": luma_alone,
    "decode": decode,
    "replay": replayed,
    "live": live,
}


def stages(clip: Clip) -> dict[str, list[float]]:
    """Milliseconds of each stage, frame by frame, in one thread."""
    found: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.thread_time_ns()
        answer = call()
        found[name].append((time.thread_time_ns() - began) / 1e6)
        return answer

    region, segmenter, freeze = clip.region(), clip.segmenter(), FreezeDetector()
    live_region, steady = clip.region(), TemporalFilter()
    spec = clip.engine.spec
    familiar = "" if spec.judgement is None else spec.judgement.familiar
    detector = OutOfDistributionDetector(familiar)
    with clip.source() as source:
        frames = iter(source)
        for number in range(clip.frames):
            frame = timed("decode", lambda: next(frames))
            roi, _ = timed("locate", lambda: region.locate_recorded(frame))  # noqa: B023
            prepared = timed("preprocess", lambda: segmenter.prepare(frame, roi))  # noqa: B023
            planes = segmenter.infer(prepared)
            timed("check the planes", lambda: segmenter._check(planes))  # noqa: B023
            if familiar:
                at_ns = round((frame.pts_seconds or 0.0) * 1e9)
                timed("kind of image", lambda: detector.distance(prepared.content, at_ns))  # noqa: B023
                timed("colour", lambda: is_coloured(frame, prepared.roi))  # noqa: B023
            answer = timed("postprocess", lambda: postprocess(prepared, planes, spec))  # noqa: B023
            result = Result(frame, answer, prepared.roi, prepared.clock.stage_ns)
            timed("record", lambda: json_line(frame_record(result)))  # noqa: B023
            at_ns = number * 1_000_000_000 // LIVE_FPS
            shown = replace(frame, captured_ns=at_ns)
            timed("live: locate", lambda: (live_region.known(shown), live_region.locate(shown)))  # noqa: B023
            timed("live: frozen?", lambda: freeze.update(frame.grey(prepared.roi), at_ns))  # noqa: B023
            timed("live: steady", lambda: steady.update(planes, prepared.content, at_ns))  # noqa: B023
    return found


def main() -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("clips", nargs="*", help="recorded videos; default: a phantom clip")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--picture", type=Path, help="draw the stages of the last clip into an SVG file")
    made.add_argument("--rates", action="store_true", help="frames per second, too")
    made.add_argument("--engine", help="name of the engine; default: as for replay")
    options = made.parse_args()
    rounds, frames = (1, 60) if options.quick else (options.rounds, FRAMES)
    limit_opencv_threads()
    backend = load_backend(options.engine)
    with tempfile.TemporaryDirectory(prefix="streamseg-cost-") as folder:
        uris = options.clips or [open_clip(None, Path(folder)).uri]
        clips = [
            Clip(uri, f"clip {number}" if options.clips else "phantom clip", frames, backend)
            for number, uri in enumerate(uris, 1)
        ]
        result = {
            "what": "processor time of a frame",
            **provenance(backend),
            "rounds": rounds,
            "frames": frames,
            "clips": {clip.name: measure(clip, rounds, options) for clip in clips},
        }
    if options.picture is not None:
        options.picture.write_bytes(draw(result["clips"][clips[-1].name]["stages_ms"]))
    publish("frame-cost", result, report(result), options)


def measure(clip: Clip, rounds: int, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a clip, ms per frame."""
    rotation: Rotation[float] = Rotation(VARIANTS, on_failure=reraise)
    if not options.quick:
        rotation.warm_up(lambda name: VARIANTS[name](clip))
    rotation.run(lambda name: VARIANTS[name](clip), rounds)
    found = rotation.results
    around = [whole - part for whole, part in zip(found["replay"], found["decode"], strict=True)]
    over = [ours / theirs for ours, theirs in zip(found["decode"], found["PyAV, luma alone"], strict=True)]
    many = load_backend(options.engine, throughput=True) if options.rates else None
    return {
        **({} if many is None else {"rates": rates(clip, many, rounds)}),
        "ms": {name: spread(values) for name, values in found.items()},
        "around_the_net_ms": {"replay": spread(around), "live": spread(found["live"])},
        "decode_over_pyav": spread(over),
        "stages_ms": {
            name: {
                "p50": round(statistics.median(values), 4),
                "mean": round(statistics.fmean(values), 4),
                "p99": round(float(np.percentile(values, 99)), 4),
            }
            for name, values in stages(clip).items()
        },
    }


def draw(found: dict[str, dict[str, float]]) -> bytes:
    """One frame's life without the net: its stages one after another, each at its p50 and at its p99; SVG."""
    names = [name for name in found if not name.startswith("live")]
    with style():
        drawing = blank(0.6 + 0.22 * len(names))
        for axes, quantile in zip(drawing.subplots(1, 2, sharey=True), ("p50", "p99"), strict=True):
            left = 0.0
            for row, name in enumerate(names):
                axes.barh(row, found[name][quantile], 0.7, left=left, color=DARK if row else GREY)
                left += found[name][quantile]
            axes.set_title(f"{quantile} of every stage: {left:.1f} ms")
            axes.set_xlabel("ms of processor time")
            axes.set_yticks(range(len(names)), names)
            axes.grid(axis="x", alpha=0.3)
        axes.invert_yaxis()
        return svg(drawing)


def report(result: dict[str, Any]) -> list[str]:
    """The tables."""
    lines: list[str] = []
    for name, found in result["clips"].items():
        lines += [
            f"{name}, {result['rounds']} rounds of {result['frames']} frames, ms of processor time per frame"
        ]
        lines += ["", "| stage, in one thread | p50 | mean | p99 |", "|---|---|---|---|"]
        lines += [
            f"| {stage} | {v['p50']:.3f} | {v['mean']:.3f} | {v['p99']:.3f} |"
            for stage, v in found["stages_ms"].items()
        ]
        lines += ["", "| whole process | median | min | max |", "|---|---|---|---|"]
        rows = {**found["ms"], **{f"around the net, {k}": v for k, v in found["around_the_net_ms"].items()}}
        rows["decode / PyAV"] = found["decode_over_pyav"]
        lines += [
            f"| {what} | {v['median']:.3f} | {v['min']:.3f} | {v['max']:.3f} |" for what, v in rows.items()
        ]
        lines.append("")
        if "rates" in found:
            both = {**found["rates"]["fps"]}
            both |= {what.replace("_", " "): found["rates"][what] for what in found["rates"] if what != "fps"}
            lines += ["| frames/s | median | min | max |", "|---|---|---|---|"]
            lines += [
                f"| {what} | {v['median']:.3g} | {v['min']:.3g} | {v['max']:.3g} |"
                for what, v in both.items()
            ]
            lines.append("")
    return lines[:-1]


if __name__ == "__main__":
    main()
