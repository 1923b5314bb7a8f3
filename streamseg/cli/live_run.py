"""A run of ``streamseg live``: wires settings, engine, displays and recorder, and reports the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamseg.capture import open_source
from streamseg.capture.live import is_live, open_live
from streamseg.capture.rtsp.address import masked, without_credentials
from streamseg.capture.screen.region import ImageRegion
from streamseg.cli.console import (
    Stop,
    limit_opencv_threads,
    print_json,
    say,
    share_one_heap,
    stop_on_signals,
)
from streamseg.cli.engine import load_engine
from streamseg.cli.latency_table import outlined_words, show_latencies
from streamseg.cli.replay_clip import region_of_clip
from streamseg.cli.replay_outputs import check_outputs
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError
from streamseg.core.pixel_aspect import parse_aspect
from streamseg.core.plugins import plugins
from streamseg.core.printable import without_logins
from streamseg.core.types import Backend, Say, Source
from streamseg.live import LiveLoop, LiveReport
from streamseg.live.config import LiveConfig, load_profile, save_profile
from streamseg.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from streamseg.core.types import Image
    from streamseg.core.view import Display, RunObserver, View
    from streamseg.display import WindowDisplay
    from streamseg.recording import RecorderToggle
    from streamseg.render.live import LiveStyle

RECORDINGS = Path("recordings")
"""Folder in which the key r records if --record is not given."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The options that belong to this one run, and to no profile."""

    seconds: float | None
    record: Path | None
    records: Path | None
    token: str | None
    snapshots: Path
    force: bool
    profile: str | None
    recordings: Path = RECORDINGS
    """Folder in which a recording that somebody asks for starts, if ``record`` is None."""


def configure(params: Mapping[str, Any], *, profile: str | None, save_as: str | None) -> LiveConfig:
    """The profile's settings, replaced by those of the command line; saved as a profile if asked for."""
    config = LiveConfig.of(params, load_profile(profile) if profile else None)
    if config.source is None:
        raise UsageError("no source; give v4l2:/dev/video0, rtsp://..., a file, phantom:, or --profile NAME")
    if save_as:
        saved = replace(config, source=_without_login(config.source))
        say(f"saved profile {save_as} as {save_profile(save_as, saved)}")
        if saved.source != config.source:
            say("user and password are not saved; set STREAMSEG_RTSP_USER and STREAMSEG_RTSP_PASSWORD")
    return config


def _without_login(source: str) -> str:
    """The source as it may be stored. Raises UsageError if its query holds a secret."""
    bare = without_credentials(source)
    if "://" in source and bare != masked(bare):
        raise UsageError("the RTSP address has a secret in its query, which no profile stores; leave it out")
    return bare


def run(config: LiveConfig, request: RunRequest, *, as_json: bool) -> None:
    """The whole run. Raises what ended it; typer.Exit after a signal."""
    share_one_heap()
    limit_opencv_threads()
    source = config.source or ""
    capture = config.capture()

    def opener() -> Source:
        return open_live(source, capture, on_wait=loop.on_wait)

    check_records(request, source)
    region = region_of(config)
    # First, and interruptible by Ctrl-C: building an engine takes minutes.
    backend = load_engine(config.engine)
    with stop_on_signals() as stop, ExitStack() as opened:
        opened.callback(backend.close)
        displays, style = _open_displays(config, request, opened)
        toggle, observers = open_observers(config, request, backend, style, opened)
        loop = LiveLoop(
            opener,
            Segmenter.for_live(backend),
            config.loop(seconds=request.seconds),
            region=region,
            displays=displays,
            observers=observers,
            say=say,
            on_command=toggle.command,
            recording=toggle.status,
        )
        opened.pop_all()  # the loop closes displays and observers
        opened.callback(backend.close)
        report = loop.run(stop.event)
    _conclude(report, config, backend, stop, as_json=as_json)


def check_records(request: RunRequest, source: str) -> None:
    if request.records is None:
        return
    if request.records.suffix.lower() != ".jsonl":
        raise UsageError(f"--records {request.records}: live records are JSON lines; end the name in .jsonl")
    check_outputs([request.records], [] if is_live(source) else [source], force=request.force)


def region_of(config: LiveConfig, say: Say = say) -> ImageRegion:
    """The region policy: given, or found in advance in a recording, or on the way in a live source.

    Raises UsageError for a given region outside the frames of a recording.
    """
    source = config.source or ""
    search = config.roi == "auto" and not source.startswith("phantom:")
    if is_live(source) or not (search or config.given_roi):
        return ImageRegion(config.given_roi, search=search, say=say)
    # A recording may end before enough of it was seen, so it is searched in advance, as in a replay.
    sar = parse_aspect(config.sar)
    with open_source(source, sar=sar) as recorded:
        info = recorded.info
    if config.given_roi is not None:
        config.given_roi.check_inside(info.height, info.width)
        return ImageRegion(config.given_roi, say=say)
    return region_of_clip(source, info, sar=sar, live=True)


def name_of(config: LiveConfig) -> str:
    """The source's human-readable name: no credentials, and no folders, which may name a patient."""
    source = config.source or ""
    if is_live(source) or source.startswith("phantom:") or "://" in source:
        return masked(source.strip())
    return without_logins(Path(source).name)


def _setup(config: LiveConfig) -> dict[str, Any]:
    """The settings as they are recorded: those of the network's outputs only if they are used."""
    values = {**asdict(config), "source": name_of(config)}
    return {n: value for n, value in values.items() if n not in ("public_url", "igtl") or value is not None}


def _open_displays(
    config: LiveConfig, request: RunRequest, opened: ExitStack
) -> tuple[list[Display], Callable[[], LiveStyle]]:
    """The displays, and the style in which the image is drawn now.

    The keys of a window change it; the buttons of pages do not, since each page has its own.
    """
    from streamseg.render.live import LiveStyle

    displays: list[Display] = []
    window: WindowDisplay | None = None
    begun = LiveStyle(vessels=config.vessels, opacity=config.opacity, full_frame=config.full_frame)

    def style() -> LiveStyle:
        return begun if window is None else window.style

    if config.igtl is not None:
        displays.append(_serve_igtl(config))
        opened.callback(displays[0].close)  # even if the next one cannot be opened
    if config.display == "window":
        from streamseg.display import WindowDisplay

        window = WindowDisplay(
            "streamseg", style=begun, full_screen=config.full_screen, snapshots=request.snapshots
        )
        displays.append(window)
    elif config.display == "web":
        from streamseg.web import WebDisplay

        page = WebDisplay(
            host=config.host,
            port=config.port,
            token=request.token,
            public_url=config.public_url,
            title=name_of(config),
            record=True,
            recorded_by_operator=request.record is not None,
            opacity=config.opacity,
            vessels=config.vessels,
        )
        say_address(page.url, page.address, request)
        displays.append(page)
    elif config.display != "none":
        displays.append(plugins("displays")[config.display].make(title=name_of(config)))
    for display in displays:
        opened.callback(display.close)
    return displays, style


def say_address(url: str, address: str, request: RunRequest) -> None:
    """Say where the page is: ``url`` has the token, ``address`` has not."""
    if request.token is None:
        say(f"open {url} in a browser")
    else:  # the user knows it, and logs need not
        say(f"open {address}?token=TOKEN in a browser, with the token that you gave for TOKEN")


def _serve_igtl(config: LiveConfig) -> Display:
    from streamseg.openigtlink.server import OpenIGTLinkDisplay, parse_place
    from streamseg.web.access import is_loopback

    host, port = parse_place(config.igtl or "")
    display = OpenIGTLinkDisplay(host=host, port=port, full_frame=config.full_frame, say=say)
    say(f"serving OpenIGTLink on {host} port {display.port}")
    if not is_loopback(host):
        say("OpenIGTLink has no password: whoever reaches this port sees the image")
    return display


def open_observers(
    config: LiveConfig,
    request: RunRequest,
    backend: Backend,
    style: Callable[[], LiveStyle],
    opened: ExitStack,
    say: Say = say,
) -> tuple[RecorderToggle, list[RunObserver]]:
    """Records, and the recorder: started at once with --record, else when somebody asks for it.

    ``style`` is that of the displays.
    """
    from streamseg.recording import LiveRecords, Recorder, RecorderToggle
    from streamseg.render.live import LivePainter

    header = {
        "source": name_of(config),
        "engine": EngineInfo.of(backend).identity(),
        "profile": request.profile,
        "setup": _setup(config),
        "age_budget_ms": config.age_budget_ms,
    }
    observers: list[RunObserver] = []
    if request.records is not None:
        observers.append(LiveRecords(request.records, header=header, force=request.force, say=say))
        opened.callback(observers[0].close)

    def record() -> Recorder:
        painter = LivePainter()
        canvas: Image | None = None

        def compose(view: View, drawn: LiveStyle) -> Image:
            nonlocal canvas
            canvas = painter.paint(view, None, drawn, canvas=canvas)
            return canvas

        return Recorder(
            request.record or request.recordings,
            header=header,
            full_frame=config.full_frame,
            say=say,
            compose=compose,
            style=style,
        )

    toggle = RecorderToggle(record, say=say)
    opened.callback(toggle.close)
    if request.record is not None:
        toggle.start()
    return toggle, [*observers, toggle]


def _conclude(report: LiveReport, config: LiveConfig, backend: Backend, stop: Stop, *, as_json: bool) -> None:
    show_report(report)
    if as_json:
        print_json(
            {
                "source": name_of(config),
                **report.to_json(),
                "engine": EngineInfo.of(backend).identity(),
            }
        )
    leave(report, stop)


def leave(report: LiveReport, stop: Stop) -> None:
    """Raise what ended a run, or typer.Exit after a signal; else return."""
    if report.error is not None:
        raise report.error
    if stop:
        say(f"stopped by {stop.cause}")
        raise typer.Exit(stop.exit_code)


def show_report(report: LiveReport, say: Say = say, of: str = "") -> None:
    """Human-readable times, counts and states, on stderr; ``of`` names the stream in the table's title."""
    if report.stages:
        show_latencies(f"{of}milliseconds per frame", {**report.stages, "age at display": report.age})
    states = ", ".join(f"{state} {seconds:.1f} s" for state, seconds in report.states.items())
    say(
        f"{report.offered} frames offered, {report.processed} segmented, {report.dropped} dropped, "
        f"{report.reconnects} reconnects in {report.seconds:.1f} s; {states}"
        f"{outlined_words(report.outlined)}"
    )
