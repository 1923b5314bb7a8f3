"""Replays one clip and remembers what came of it, also when it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from streamseg.capture import open_source
from streamseg.capture.screen.find import find_region
from streamseg.cli.console import Progress, Stop, say
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import SourceError, StreamsegError
from streamseg.core.latency import Percentiles, StageClock
from streamseg.core.types import Backend, Frame, Image, Roi, Sink, Source, SourceInfo
from streamseg.pipeline.replay import run_replay
from streamseg.segmentation.preprocess import Prepared
from streamseg.segmentation.segmenter import Segmenter
from streamseg.sinks import open_sink

SAMPLED_FRAMES, SAMPLED_EVERY = 24, 8
"""The screen finder sees this many frames, one of so many: the first few seconds of a clip."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What the user asked for, the same for every clip."""

    roi: Roi | None = None
    """A rectangle that the user gave."""
    find_roi: bool = True
    """Look for the image where no rectangle was given."""
    start_seconds: float = 0.0
    max_frames: int | None = None
    full_frame: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """A finished file."""

    path: Path
    frames: int
    size: int
    """Bytes."""


@dataclass(slots=True)
class ClipReport:
    """What became of one clip."""

    source: str
    frames: int = 0
    seconds: float = 0.0
    fps: float | None = None
    roi: Roi | None = None
    """The part of the frame that was segmented; None is the whole frame."""
    roi_from: str = "whole frame"
    """``given``, ``source`` (DICOM), ``found`` or ``whole frame``."""
    states: dict[str, int] = field(default_factory=dict)
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    age: Percentiles | None = None
    sinks: list[tuple[Path, Sink]] = field(default_factory=list)
    """Every output that was opened, with its file."""
    error: StreamsegError | None = None

    @property
    def outputs(self) -> list[Output]:
        """What was written. A file that got no frame is left out: it may not exist, or be an older one."""
        written = ((path, getattr(sink, "frames", self.frames)) for path, sink in self.sinks)
        return [Output(path, frames, path.stat().st_size) for path, frames in written if frames]

    def to_json(self) -> dict[str, Any]:
        """Strings, numbers, lists and dicts; times in milliseconds."""
        stages = dict(self.stages) if self.age is None else {**self.stages, "age": self.age}
        return {
            "source": self.source,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "fps": None if self.fps is None else round(self.fps, 3),
            "roi": None if self.roi is None else [self.roi.x, self.roi.y, self.roi.width, self.roi.height],
            "roi_from": self.roi_from,
            "states": self.states,
            "stages_ms": {name: times.to_json() for name, times in stages.items()},
            "outputs": [
                {"path": str(output.path), "frames": output.frames, "bytes": output.size}
                for output in self.outputs
            ],
            "error": None if self.error is None else str(self.error),
        }


def run_clip(
    uri: str, outputs: list[Path], backend: Backend, options: ReplayOptions, stop: Stop
) -> ClipReport:
    """Replay one clip into its outputs. Errors of ours end up in the answer, with what was done before."""
    run = ClipReport(source=uri)
    try:
        _replay_into(run, uri, outputs, backend, options, stop)
    except StreamsegError as error:
        run.error = error
    return run


def _replay_into(
    run: ClipReport, uri: str, outputs: list[Path], backend: Backend, options: ReplayOptions, stop: Stop
) -> None:
    with open_source(uri, start_seconds=options.start_seconds) as source:
        run.source = source.info.name
        run.roi, run.roi_from = choose_roi(uri, source.info, options)
        if stop:
            return
        with ExitStack() as opened:
            _open_sinks(run, outputs, backend, source.info, options, opened)
            opened.pop_all()  # from here on the loop closes them, in every case
        _segment_all(run, source, backend, options, stop)


def _open_sinks(
    run: ClipReport,
    outputs: list[Path],
    backend: Backend,
    info: SourceInfo,
    options: ReplayOptions,
    opened: ExitStack,
) -> None:
    """Open every output; those already open are closed by ``opened`` where a later one cannot be."""
    header = {
        "source": info.name,
        "engine": EngineInfo.of(backend).identity(),
        "roi": None if run.roi is None else str(run.roi),
        "roi_from": run.roi_from,
    }
    for path in outputs:
        sink = open_sink(path, info, header=header, force=options.force, full_frame=options.full_frame)
        opened.callback(sink.close)
        run.sinks.append((path, sink))


def _segment_all(
    run: ClipReport, source: Source, backend: Backend, options: ReplayOptions, stop: Stop
) -> None:
    info = source.info
    total = min((n for n in (info.frame_count, options.max_frames) if n), default=None)
    with Progress(info.name, total) as progress:
        report = run_replay(
            source,
            Segmenter(backend, run.roi) if options.roi else _FoundRegion(backend, run.roi, info),
            [sink for _, sink in run.sinks],
            stop=stop.event,
            max_frames=options.max_frames,
            on_result=lambda _: progress.advance(),
        )
    run.frames, run.seconds, run.fps = report.frames, report.seconds, report.fps
    run.states = {str(state): count for state, count in report.states.items()}
    run.stages, run.age = report.stages, report.age if report.frames else None
    if report.error is not None:
        raise report.error
    if missing := getattr(source, "note", ""):
        say(missing)


class _FoundRegion(Segmenter):
    """Takes a region that nobody gave only in frames of the size that it was found in, others whole."""

    def __init__(self, backend: Backend, roi: Roi | None, info: SourceInfo) -> None:
        super().__init__(backend, roi)
        self._info = info
        self._said = False

    def prepare(self, frame: Frame, roi: Roi | None = None, clock: StageClock | None = None) -> Prepared:
        height, width = frame.image.shape[:2]
        if self.roi is None or (height, width) == (self._info.height, self._info.width):
            return super().prepare(frame, roi, clock)
        if not self._said:
            self._said = True
            size = f"{width}x{height}"
            say(f"{self._info.name}: frame {frame.index} is {size}; frames of another size are taken whole")
        return super().prepare(frame, Roi.whole(frame.image), clock)


def choose_roi(uri: str, info: SourceInfo, options: ReplayOptions) -> tuple[Roi | None, str]:
    """The part of the frame to segment, and where that was known from; None is the whole frame.

    Raises UsageError for a given rectangle that reaches outside the frame.
    """
    if options.roi is not None:
        options.roi.check_inside(info.height, info.width)
        return options.roi, "given"
    if not options.find_roi or uri.startswith("phantom:"):
        return None, "whole frame"
    if info.region is not None:
        return info.region, "source"
    found = find_region(sample_frames(uri, options.start_seconds))
    if found is None:
        say(f"{info.name}: found no ultrasound image in the screen, taking all of it; --roi x,y,w,h sets it")
        return None, "whole frame"
    say(f"{info.name}: found the ultrasound image at {found}; --roi overrides it")
    return found, "found"


def sample_frames(uri: str, start_seconds: float) -> list[Image]:
    """Some frames of the first few seconds, of one size, through a short second opening of the source."""
    images: list[Image] = []
    with open_source(uri, start_seconds=start_seconds) as source:
        try:
            for frame in islice(source, SAMPLED_FRAMES * SAMPLED_EVERY):
                if frame.index % SAMPLED_EVERY == 0 and (not images or frame.image.shape == images[0].shape):
                    images.append(frame.image)
        except SourceError:
            pass  # the replay itself comes to the same place, and reports it after the frames before it
    return images
