"""``streamseg replay DIR --as-recorded``: repeats a recorded live run, each frame at its recorded time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.capture import open_source
from streamseg.capture.paced import PacedSource
from streamseg.capture.recording.reader import Recorded
from streamseg.capture.recording.source import RecordingSource
from streamseg.capture.screen.region import ImageRegion
from streamseg.cli.console import print_json, say, stderr_console, stop_on_signals, table_text
from streamseg.cli.engine import load_engine
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError
from streamseg.live import LiveLoop, LiveOptions, LiveReport
from streamseg.segmentation.segmenter import Segmenter

_USUAL_BUDGET_MS = 150.0


def check_options(
    *,
    out: Path | None,
    records: Sequence[Path] | None,
    dicom: Path | None,
    roi: str,
    sar: str | None,
    max_frames: int | None,
    full_frame: bool,
    vessels: bool,
) -> None:
    """Raise UsageError for options of a normal replay only."""
    given = {
        "--out": out is not None,
        "--records": bool(records),
        "--dicom": dicom is not None,
        "--roi": roi != "auto",
        "--sar": sar is not None,
        "--max-frames": max_frames is not None,
        "--full-frame": full_frame,
        "--no-vessels": not vessels,
    }
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise UsageError(
            f"--as-recorded repeats a live run as it was and does not allow {wrong[0]}; "
            "leave it out, or replay without --as-recorded"
        )


def repeat(uri: str, *, engine: str | None, start_seconds: float, as_json: bool) -> None:
    """Run the live loop on a recording, without a display, and print its figures of then and now.

    Raises UsageError for a source that is not a recording, and whatever ended the run; typer.Exit after a
    signal.
    """
    from streamseg.cli.console import limit_opencv_threads
    from streamseg.cli.live_run import leave

    limit_opencv_threads()
    source = _open(uri, start_seconds)
    then = _RecordedRun.of(source)
    options = LiveOptions(age_budget_s=_budget_ms(source.recorded.header) / 1e3)
    # Frames of which no region was recorded are the image, and are taken whole.
    region = ImageRegion.of_recording(source.info, lambda: source, search=source.info.region is not None)
    paced = PacedSource(source, moments=source.offered)
    with stop_on_signals() as stop, paced:
        backend = load_engine(engine)
        try:
            segmenter = Segmenter.for_live(backend)
            report = LiveLoop(lambda: paced, segmenter, options, region=region, say=say).run(stop.event)
        finally:
            backend.close()
    _show(report, then)
    if source.note:
        say(source.note)
    if as_json:
        used = EngineInfo.of(backend).identity()
        now = {"source": source.info.name, **report.to_json(), "engine": used}
        print_json({**now, "recorded": then.to_json()})
    leave(report, stop)


def _open(uri: str, start_seconds: float) -> RecordingSource:
    source = open_source(uri, start_seconds=start_seconds)
    if isinstance(source, RecordingSource):
        return source
    source.close()
    raise UsageError(f"{uri} is not a recorded live run; give a folder that 'streamseg live --record' made")


def _budget_ms(header: Mapping[str, Any]) -> float:
    """The age budget of the recorded run."""
    budget = header.get("age_budget_ms")
    return float(budget) if isinstance(budget, int | float) and budget > 0 else _USUAL_BUDGET_MS


@dataclass(frozen=True, slots=True)
class _RecordedRun:
    """The figures of the recorded run over the time of the frames that are offered again."""

    offered: int
    processed: int
    absent: int
    """Frames offered then of which no image was recorded."""
    seconds: float
    states: Mapping[str, float]

    @classmethod
    def of(cls, source: RecordingSource) -> _RecordedRun:
        recorded: Recorded = source.recorded
        first, last = source.planned[0].arrived_ns, source.planned[-1].arrived_ns
        offered = [frame for frame in recorded.offered if first <= frame.arrived_ns <= last]
        segmented = set(recorded.segmented)
        return cls(
            offered=len(offered),
            processed=sum(frame.index in segmented for frame in offered),
            absent=sum(frame.video is None for frame in offered),
            seconds=(last - first) / 1e9,
            states=recorded.state_seconds(first, last),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "offered": self.offered,
            "processed": self.processed,
            "dropped": self.offered - self.processed,
            "absent": self.absent,
            "seconds": round(self.seconds, 3),
            "states": {state: round(seconds, 3) for state, seconds in self.states.items()},
        }


def _show(report: LiveReport, then: _RecordedRun) -> None:
    """Print a human-readable table of then and now, on stderr."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("", box=SIMPLE_HEAD)
    for column in ("recorded", "now"):
        table.add_column(column, justify="right")
    now_states = {str(state): seconds for state, seconds in report.states.items()}
    for state in dict.fromkeys((*then.states, *now_states)):
        table.add_row(
            table_text(state), f"{then.states.get(state, 0):.1f} s", f"{now_states.get(state, 0):.1f} s"
        )
    table.add_row("frames offered", str(then.offered), str(report.offered))
    table.add_row("segmented", str(then.processed), str(report.processed))
    table.add_row("dropped", str(then.offered - then.processed), str(report.dropped))
    stderr_console().print(table)
    if then.absent:
        say(f"{then.absent} of the frames offered then have no image, so they could not be offered again")
