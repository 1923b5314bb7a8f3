"""Replays one clip and reports the outcome, including partial results after an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from streamseg.capture import open_source
from streamseg.capture.screen.region import ImageRegion
from streamseg.cli.console import Progress, Stop, say
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import StreamsegError
from streamseg.core.latency import Percentiles
from streamseg.core.types import Backend, Roi, Sink, Source, SourceInfo
from streamseg.pipeline.replay import Replay
from streamseg.segmentation.segmenter import Segmenter
from streamseg.sinks import open_sink


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The user's options, the same for every clip."""

    roi: Roi | None = None
    """A rectangle that the user gave."""
    find_roi: bool = True
    """Search for the image if no rectangle was given."""
    start_seconds: float = 0.0
    sar: Fraction | None = None
    """Width of a pixel divided by its height; None: as the clip says."""
    max_frames: int | None = None
    full_frame: bool = False
    vessels: bool = True
    """Draw them in videos and images."""
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
    """The outcome of one clip."""

    source: str
    frames: int = 0
    seconds: float = 0.0
    fps: float | None = None
    roi: Roi | None = None
    """The part of the frame that was segmented; None is the whole frame."""
    roi_from: str = "whole frame"
    """See :class:`streamseg.capture.screen.region.Origin`."""
    states: dict[str, int] = field(default_factory=dict)
    outlined: Mapping[str, int] = field(default_factory=dict)
    """Frames with an outline, by structure."""
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    age: Percentiles | None = None
    sinks: list[tuple[Path, Sink]] = field(default_factory=list)
    """Every output that was opened, with its file."""
    error: StreamsegError | None = None

    @property
    def outputs(self) -> list[Output]:
        """The written files. One that got no frame is left out: it may not exist, or be an older one."""
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
            "outlined": dict(self.outlined),
            "stages_ms": {name: times.to_json() for name, times in stages.items()},
            "outputs": [
                {"path": str(output.path), "frames": output.frames, "bytes": output.size}
                for output in self.outputs
            ],
            "error": None if self.error is None else str(self.error),
        }


def run_clip(
    uri: str,
    outputs: list[Path],
    backend: Backend,
    options: ReplayOptions,
    stop: Stop,
    *,
    dicom: Sequence[Path] = (),
) -> ClipReport:
    """Replay one clip into its outputs; ``dicom`` are those of :func:`streamseg.sinks.dicom.dicom_paths`.

    An error of ours ends up in the report, with what was done before.
    """
    run = ClipReport(source=uri)
    try:
        _replay_into(run, uri, outputs, dicom, backend, options, stop)
    except StreamsegError as error:
        run.error = error
    return run


def _replay_into(
    run: ClipReport,
    uri: str,
    outputs: list[Path],
    dicom: Sequence[Path],
    backend: Backend,
    options: ReplayOptions,
    stop: Stop,
) -> None:
    with open_source(uri, start_seconds=options.start_seconds, sar=options.sar) as source:
        run.source = source.info.name
        region = region_of_clip(
            uri,
            source.info,
            given=options.roi,
            search=options.find_roi,
            start_seconds=options.start_seconds,
            sar=options.sar,
        )
        run.roi, run.roi_from = region.roi, str(region.origin)
        if stop:
            return
        with ExitStack() as opened:
            _open_sinks(run, outputs, backend, source.info, options, opened)
            if dicom:
                _open_dicom(run, source, Path(uri), dicom, backend, options, opened)
            opened.pop_all()  # from here on the loop closes them, in every case
        _segment_all(run, source, backend, region, options, stop)


def region_of_clip(
    uri: str,
    info: SourceInfo,
    *,
    given: Roi | None = None,
    search: bool = True,
    start_seconds: float = 0.0,
    sar: Fraction | None = None,
    live: bool = False,
) -> ImageRegion:
    """The region policy of a recorded source; ``live``: it is played as if it were live.

    Raises UsageError for a given region outside the frame.
    """
    return ImageRegion.of_recording(
        info,
        partial(open_source, uri, start_seconds=start_seconds, sar=sar),
        given=given,
        search=search and not uri.startswith("phantom:"),
        open_at=lambda seconds: open_source(uri, start_seconds=start_seconds + seconds, sar=sar),
        live=live,
        say=lambda message: say(f"{info.name}: {message}"),
    )


def _open_sinks(
    run: ClipReport,
    outputs: list[Path],
    backend: Backend,
    info: SourceInfo,
    options: ReplayOptions,
    opened: ExitStack,
) -> None:
    """Open every output; those already open are closed by ``opened`` if a later one cannot be."""
    header = {
        "source": info.name,
        "engine": EngineInfo.of(backend).identity(),
        "roi": None if run.roi is None else str(run.roi),
        "roi_from": run.roi_from,
    }
    for path in outputs:
        sink = open_sink(
            path,
            info,
            header=header,
            force=options.force,
            full_frame=options.full_frame,
            vessels=options.vessels,
        )
        opened.callback(sink.close)
        run.sinks.append((path, sink))


def _open_dicom(
    run: ClipReport,
    source: Source,
    uri: Path,
    paths: Sequence[Path],
    backend: Backend,
    options: ReplayOptions,
    opened: ExitStack,
) -> None:
    """Open the outputs in DICOM; those already open are closed by ``opened`` if a later one cannot be."""
    from streamseg.capture.dicom.reference import reference_of
    from streamseg.sinks.dicom import open_dicom_sinks

    sinks = open_dicom_sinks(
        paths,
        reference_of(source, uri),
        source.info,
        EngineInfo.of(backend),
        force=options.force,
        full_frame=options.full_frame,
        vessels=options.vessels,
    )
    for path, sink in sinks:
        opened.callback(sink.close)
        run.sinks.append((path, sink))


def _segment_all(
    run: ClipReport,
    source: Source,
    backend: Backend,
    region: ImageRegion,
    options: ReplayOptions,
    stop: Stop,
) -> None:
    info = source.info
    total = min((n for n in (info.frame_count, options.max_frames) if n), default=None)
    with Progress(info.name, total) as progress:
        report = Replay(
            Segmenter(backend),
            [sink for _, sink in run.sinks],
            locate=region.locate_recorded,
            max_frames=options.max_frames,
            on_result=lambda _: progress.advance(),
        ).run(source, stop.event)
    run.frames, run.seconds, run.fps = report.frames, report.seconds, report.fps
    run.states = {str(state): count for state, count in report.states.items()}
    run.outlined = report.outlined
    run.stages, run.age = report.stages, report.age if report.frames else None
    if report.error is not None:
        raise report.error
    if missing := getattr(source, "note", ""):
        say(missing)
