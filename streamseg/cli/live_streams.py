"""A run of ``streamseg live`` with several sources: one engine, one page, and a loop of its own for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamseg.backends.shared import SharedEngine
from streamseg.capture import open_source
from streamseg.capture.live import CaptureOptions, is_live, open_live
from streamseg.cli.console import (
    limit_opencv_threads,
    print_json,
    say,
    share_one_heap,
    stop_on_signals,
)
from streamseg.cli.engine import load_engine
from streamseg.cli.live_run import (
    RunRequest,
    check_records,
    leave,
    name_of,
    open_observers,
    region_of,
    say_address,
    show_report,
)
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError
from streamseg.core.pixel_aspect import parse_aspect
from streamseg.core.types import Backend, Source
from streamseg.live import LiveLoop, LiveReport, run_streams
from streamseg.live.config import LiveConfig, load_profile
from streamseg.live.streams import POLL_S
from streamseg.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from streamseg.web import WebWall

MAX_STREAMS = 16
"""Sources of one run."""
SHARED = ("engine", "display", "host", "port", "public_url", "opacity", "vessels")
"""Settings that hold for all streams of a run."""
OF_ONE_SCANNER = ("mm_per_pixel", "sar")
"""Settings that would be wrong for every source but one; so would a rectangle as ``roi``."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """One of the streams of a run."""

    number: int
    """1, 2, ..., in the order of the command line."""
    config: LiveConfig
    request: RunRequest
    """With the names of this stream's files."""

    def say(self, message: str) -> None:
        """Say something of this stream on stderr."""
        say(f"stream {self.number}: {message}")


def configure_streams(
    params: Mapping[str, Any], sources: Sequence[str], profiles: Sequence[str], *, save_as: str | None
) -> list[LiveConfig]:
    """The settings of each stream: of a source each, or of a profile each.

    Raises UsageError for what makes no sense with several sources.
    """
    given = LiveConfig.of({**params, "source": None})
    if save_as:
        raise UsageError("--save-profile saves the settings of one source; run it once for each")
    if len(profiles) > 1:
        if sources:
            raise UsageError(
                "several profiles are a stream each, with the source of each; leave SOURCE out, or give one "
                "--profile"
            )
        _check_no_scanner(given)
        configs = [LiveConfig.of({**params, "source": None}, load_profile(name)) for name in profiles]
        _check_agreement(profiles, configs)
    else:
        base = LiveConfig.of({**params, "source": None}, load_profile(profiles[0]) if profiles else None)
        _check_no_scanner(base)
        configs = [replace(base, source=source) for source in sources]
    _check_sources(configs)
    _check_display(configs)
    return configs


def _check_no_scanner(config: LiveConfig) -> None:
    """Refuse, for all sources together, what belongs to one scanner."""
    wrong = [name for name in OF_ONE_SCANNER if getattr(config, name) is not None]
    if config.given_roi is not None:
        wrong.append("roi")
    if wrong:
        option = wrong[0].replace("_", "-")
        raise UsageError(
            f"--{option} belongs to one source, and there are several; save a profile for each source "
            "(--save-profile) and give them all: --profile A --profile B"
        )


def _check_agreement(profiles: Sequence[str], configs: Sequence[LiveConfig]) -> None:
    for name, config in zip(profiles, configs, strict=True):
        if config.source is None:
            raise UsageError(f"profile {name} has no source; save it again, with one")
        for setting in SHARED:
            ours, theirs = getattr(config, setting), getattr(configs[0], setting)
            if ours != theirs:
                raise UsageError(
                    f"profiles {profiles[0]} and {name} differ in {setting.replace('_', '-')} ({theirs} and "
                    f"{ours}), which all streams share; give it on the command line"
                )


def _check_sources(configs: Sequence[LiveConfig]) -> None:
    if len(configs) > MAX_STREAMS:
        raise UsageError(f"{len(configs)} sources are too many for one run; give at most {MAX_STREAMS}")
    source, times = Counter((config.source or "").strip() for config in configs).most_common(1)[0]
    if times > 1:
        name = name_of(replace(configs[0], source=source))
        raise UsageError(f"source {name} is given {times} times; give each source once")


def _check_display(configs: Sequence[LiveConfig]) -> None:
    display = configs[0].display
    if display not in ("web", "none"):
        what = "a window" if display == "window" else f"display {display}"
        raise UsageError(
            f"{what} shows one source, and there are {len(configs)}; add --display web for a page of all, or "
            "--display none"
        )
    if any(config.igtl is not None for config in configs):
        raise UsageError(
            "--igtl serves one source, and there are several; start a streamseg live with --igtl for each"
        )


def run_several(
    configs: Sequence[LiveConfig], request: RunRequest, profiles: Sequence[str] = (), *, as_json: bool
) -> None:
    """The whole run; ``profiles`` are those of the streams, if each has its own.

    Raises the first error of a stream once all have ended; typer.Exit after a signal.
    """
    share_one_heap()
    limit_opencv_threads()
    streams = [
        _Stream(number, config, _request_of(request, number, profiles))
        for number, config in enumerate(configs, 1)
    ]
    for stream in streams:
        check_records(stream.request, stream.config.source or "")
        _check_recording(stream.config)
    regions = [region_of(stream.config, stream.say) for stream in streams]
    captures = [stream.config.capture() for stream in streams]
    # First, and interruptible by Ctrl-C: building an engine takes minutes.
    backend = load_shared(configs[0].engine, len(streams))
    with stop_on_signals() as stop, ExitStack() as opened:
        opened.callback(backend.close)
        shared = opened.enter_context(SharedEngine(backend))
        wall = _open_wall(configs, request)
        if wall is not None:
            opened.callback(wall.close)
        loops: list[LiveLoop] = []
        with ExitStack() as unstarted:
            for stream, region, capture in zip(streams, regions, captures, strict=True):
                toggle, observers = open_observers(
                    stream.config, stream.request, backend, _style_of(stream.config), unstarted, stream.say
                )
                loops.append(
                    LiveLoop(
                        partial(_open, stream.config.source or "", capture, loops, len(loops)),
                        Segmenter.for_live(shared.lane()),
                        replace(stream.config.loop(seconds=request.seconds), poll_s=POLL_S),
                        region=region,
                        displays=[] if wall is None else [wall.streams[stream.number - 1]],
                        observers=observers,
                        say=stream.say,
                        on_command=toggle.command,
                        recording=toggle.status,
                    )
                )
            unstarted.pop_all()  # the loops close their observers

        def ended(index: int, report: LiveReport) -> None:
            if wall is not None:
                wall.streams[index].end(report.error)
            if report.error is not None:
                streams[index].say(f"ended by an error: {report.error}")

        reports = run_streams(loops, stop.event, on_end=ended)
    for stream, report in zip(streams, reports, strict=True):
        show_report(report, stream.say, f"stream {stream.number}: ")
    if as_json:
        each = [
            {"source": name_of(stream.config), **report.to_json()}
            for stream, report in zip(streams, reports, strict=True)
        ]
        print_json({"streams": each, "engine": EngineInfo.of(backend).identity()})
    leave(next((report for report in reports if report.error is not None), reports[0]), stop)


def _check_recording(config: LiveConfig) -> None:
    """Raise UsageError or SourceError for a recording that cannot be opened, before any stream begins."""
    source = config.source or ""
    if not (is_live(source) or source.startswith("phantom:")):
        open_source(source, sar=parse_aspect(config.sar)).close()


def _open(source: str, capture: CaptureOptions, loops: Sequence[LiveLoop], index: int) -> Source:
    return open_live(source, capture, on_wait=loops[index].on_wait)


def _request_of(request: RunRequest, number: int, profiles: Sequence[str]) -> RunRequest:
    """The request with the names of one stream's files and profile."""

    def numbered(path: Path) -> Path:
        return path.with_name(f"{path.stem}-{number}{path.suffix}")

    folder = f"stream-{number}"
    return replace(
        request,
        records=None if request.records is None else numbered(request.records),
        record=None if request.record is None else request.record / folder,
        recordings=request.recordings / folder,
        profile=profiles[number - 1] if len(profiles) > 1 else request.profile,
    )


def load_shared(engine: str | None, streams: int) -> Backend:
    """The engine for a number of streams: with the cores divided among several frames if there are enough
    streams for all of them, else with all cores for each frame. Raises what ``load_engine`` raises."""
    backend = load_engine(engine, throughput=True)
    if EngineInfo.of(backend).lanes <= streams:
        return backend
    backend.close()
    return load_engine(engine)


def _style_of(config: LiveConfig) -> Callable[[], Any]:
    """The style in which a recording draws: no window changes it."""
    from streamseg.render.live import LiveStyle

    style = LiveStyle(vessels=config.vessels, opacity=config.opacity, full_frame=config.full_frame)
    return lambda: style


def _open_wall(configs: Sequence[LiveConfig], request: RunRequest) -> WebWall | None:
    if configs[0].display != "web":
        return None
    from streamseg.web import WebWall

    shared = configs[0]
    wall = WebWall(
        [name_of(config) for config in configs],
        host=shared.host,
        port=shared.port,
        token=request.token,
        public_url=shared.public_url,
        record=True,
        recorded_by_operator=request.record is not None,
        opacity=shared.opacity,
        vessels=shared.vessels,
    )
    say_address(wall.url, wall.address, request)
    return wall
