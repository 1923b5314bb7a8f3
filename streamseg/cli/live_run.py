"""Puts a live run together: set-up, displays, engine, recordings; and says what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from streamseg.capture import open_source
from streamseg.capture.live import CaptureOptions, is_live, open_live, parse_rate, parse_width_height
from streamseg.capture.rtsp.address import masked, without_credentials
from streamseg.cli.console import Stop, limit_opencv_threads, print_json, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.latency_table import show_latencies
from streamseg.cli.replay_clip import ReplayOptions, choose_roi
from streamseg.cli.replay_outputs import check_outputs
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError
from streamseg.core.types import Backend, Frame, Roi
from streamseg.live import LiveOptions, LiveReport, run_live
from streamseg.live.config import LiveConfig, from_values, load_profile, save_profile
from streamseg.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from streamseg.core.view import Display, RunObserver
    from streamseg.recording import RecorderToggle

RECORDINGS = Path("recordings")
"""Where the window's key r records to without --record."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What belongs to this one run, and to no profile."""

    seconds: float | None
    record: Path | None
    records: Path | None
    token: str | None
    snapshots: Path
    force: bool
    profile: str | None


def set_up(given: Mapping[str, Any], *, profile: str | None, save_as: str | None) -> LiveConfig:
    """The profile's settings, replaced by those given on the command line; saved where asked for."""
    base = load_profile(profile) if profile else LiveConfig()
    chosen = {name: value for name, value in given.items() if value is not None}
    setup = from_values({**{k: v for k, v in asdict(base).items() if v is not None}, **chosen})
    if setup.source is None:
        raise UsageError("no source; give v4l2:/dev/video0, rtsp://..., a file, phantom:, or --profile NAME")
    if setup.roi not in ("auto", "none"):
        Roi.parse(setup.roi)
    if save_as:
        saved = replace(setup, source=_without_login(setup.source))
        say(f"saved profile {save_as} as {save_profile(save_as, saved)}")
        if saved.source != setup.source:
            say("user and password are not saved; set STREAMSEG_RTSP_USER and STREAMSEG_RTSP_PASSWORD")
    return setup


def _without_login(source: str) -> str:
    """The source as it may be stored. Raises UsageError where its query holds a secret."""
    bare = without_credentials(source)
    if is_live(source) and bare != masked(bare):
        raise UsageError("the RTSP address has a secret in its query, which no profile stores; leave it out")
    return bare


def run(setup: LiveConfig, session: RunRequest, *, as_json: bool) -> None:
    """The whole run. Raises what ended it; typer.Exit after a signal."""
    limit_opencv_threads()
    source = setup.source or ""
    options = LiveOptions(
        age_budget_s=setup.age_budget_ms / 1e3,
        seconds=session.seconds,
        reconnect=is_live(source),
        spacing_mm=(setup.mm_per_pixel, setup.mm_per_pixel) if setup.mm_per_pixel else None,
    )
    opener = partial(open_live, source, _capture_options(setup))
    _check_records(session, source)
    # First, and open to Ctrl-C: where it has to be built, that takes minutes.
    backend = load_engine(setup.engine)
    with stop_on_signals() as stop, ExitStack() as opened:
        opened.callback(backend.close)
        options = _with_region(options, setup)
        displays = _open_displays(setup, session, opened)
        switch, taps = _open_taps(setup, session, backend, opened)
        segmenter = live_segmenter(backend)
        opened.pop_all()  # the loop closes displays and taps
        opened.callback(backend.close)
        report = run_live(
            opener,
            segmenter,
            displays=displays,
            taps=taps,
            options=options,
            stop=stop.event,
            say=say,
            on_command=switch.command,
            recording=switch.status,
        )
    _conclude(report, setup, backend, stop, as_json=as_json)


def _check_records(session: RunRequest, source: str) -> None:
    if session.records is None:
        return
    if session.records.suffix.lower() != ".jsonl":
        raise UsageError(f"--records {session.records}: live records are JSON lines; end the name in .jsonl")
    check_outputs([session.records], [] if is_live(source) else [source], force=session.force)


def _name(setup: LiveConfig) -> str:
    """The source for records and people: no credentials, and no folders, which may name a patient."""
    source = setup.source or ""
    return masked(source) if is_live(source) or source.startswith("phantom:") else Path(source).name


def _capture_options(setup: LiveConfig) -> CaptureOptions:
    return CaptureOptions(
        transport=setup.transport,
        size=parse_width_height(setup.size),
        rate=parse_rate(setup.rate),
        pixel_format=setup.pixel_format,
        pace=setup.pace,
    )


def _with_region(options: LiveOptions, setup: LiveConfig) -> LiveOptions:
    """The ROI that is given, or that a recording knows or shows; of a live source it is looked for later."""
    source = setup.source or ""
    if setup.roi not in ("auto", "none"):
        return replace(options, roi=Roi.parse(setup.roi))
    if setup.roi == "none" or source.startswith("phantom:"):
        return options
    if is_live(source):
        return replace(options, find_roi=True)
    # A recording may be over before enough of it was seen, so it is looked at beforehand, as in a replay.
    with open_source(source) as recorded:
        info = recorded.info
    return replace(options, roi=choose_roi(source, info, ReplayOptions())[0])


def _open_displays(setup: LiveConfig, session: RunRequest, opened: ExitStack) -> list[Display]:
    from streamseg.render.live import LiveStyle

    displays: list[Display] = []
    if setup.display == "window":
        from streamseg.display import WindowDisplay

        style = LiveStyle(opacity=setup.opacity, full_frame=setup.full_frame)
        displays.append(
            WindowDisplay(
                "streamseg", style=style, full_screen=setup.full_screen, snapshots=session.snapshots
            )
        )
    elif setup.display == "web":
        from streamseg.web import WebDisplay

        page = WebDisplay(
            host=setup.host,
            port=setup.port,
            token=session.token,
            title=_name(setup),
            record=True,
            opacity=setup.opacity,
        )
        say(f"open {page.url} in a browser")
        displays.append(page)
    for display in displays:
        opened.callback(display.close)
    return displays


def _open_taps(
    setup: LiveConfig, session: RunRequest, backend: Backend, opened: ExitStack
) -> tuple[RecorderToggle, list[RunObserver]]:
    """Records, and what records the run: at once with --record, else when somebody asks for it."""
    from streamseg.recording import LiveRecords, Recorder, RecorderToggle
    from streamseg.render.live import LiveStyle, compose_live

    header = {
        "source": _name(setup),
        "engine": EngineInfo.of(backend).identity(),
        "profile": session.profile,
        "setup": {**asdict(setup), "source": _name(setup)},
        "age_budget_ms": setup.age_budget_ms,
    }
    taps: list[RunObserver] = []
    if session.records is not None:
        taps.append(LiveRecords(session.records, header=header, force=session.force, say=say))
        opened.callback(taps[0].close)
    style = LiveStyle(opacity=setup.opacity, full_frame=setup.full_frame)

    def record() -> Recorder:
        return Recorder(
            session.record or RECORDINGS,
            header=header,
            full_frame=setup.full_frame,
            say=say,
            compose=lambda view: compose_live(view, None, style),
        )

    switch = RecorderToggle(record, say=say)
    opened.callback(switch.close)
    if session.record is not None:
        switch.start()
    return switch, [*taps, switch]


def live_segmenter(backend: Backend) -> Segmenter:
    """With steady outlines, and warm: the first frame must not wait for what is done but once."""
    from streamseg.segmentation.temporal_filter import TemporalFilter

    spec = backend.spec
    segmenter = Segmenter(backend, steady=TemporalFilter())
    black = segmenter.prepare(Frame(np.zeros((spec.height, spec.width), np.uint8), 0, 0))
    for _ in range(3):
        segmenter.infer(black)
    return segmenter


def _conclude(report: LiveReport, setup: LiveConfig, backend: Backend, stop: Stop, *, as_json: bool) -> None:
    _show_report(report)
    if as_json:
        print_json(
            {
                "source": _name(setup),
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


def _show_report(report: LiveReport) -> None:
    """Times, counts and states, for people, on stderr."""
    if report.stages:
        show_latencies("milliseconds per frame", {**report.stages, "age at display": report.age})
    states = ", ".join(f"{state} {seconds:.1f} s" for state, seconds in report.states.items())
    say(
        f"{report.offered} frames offered, {report.processed} segmented, {report.dropped} dropped, "
        f"{report.reconnects} reconnects in {report.seconds:.1f} s; {states}"
    )
