"""``streamseg replay``: segments recorded clips."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import Stop, print_json, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.options import EngineOption, ForceOption, JsonOption, SarOption
from streamseg.core.errors import UsageError, one_line

if TYPE_CHECKING:
    from fractions import Fraction

    from streamseg.cli.replay_clip import ClipReport, ReplayOptions
    from streamseg.core.types import Backend, Roi


def replay(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Video, DICOM file, image, folder of images or of clips, a recorded live run, or phantom:.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.mp4", help="Video with outline and figures; a folder for a folder of clips."
        ),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Records per frame, .jsonl or .csv; may be given twice."),
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for a DICOM Segmentation and a report (SR) of a DICOM file, in its own study.",
        ),
    ] = None,
    burned_in: Annotated[
        bool,
        typer.Option("--burned-in", help="With --dicom: also the cine with the outlines drawn in."),
    ] = False,
    engine: EngineOption = None,
    roi: Annotated[
        str,
        typer.Option(
            metavar="auto|none|x,y,w,h",
            help="The ultrasound image: found automatically, the whole frame, or a rectangle in pixels.",
        ),
    ] = "auto",
    max_frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N frames of each clip.")
    ] = None,
    start: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Start at this time.")] = 0.0,
    sar: SarOption = None,
    full_frame: Annotated[
        bool,
        typer.Option(
            "--full-frame", help="Keep the machine's whole screen in the output; it may name the patient."
        ),
    ] = False,
    vessels: Annotated[
        bool,
        typer.Option(
            "--vessels/--no-vessels",
            help="Draw the outlines of vessels in the video and --burned-in, or not.",
        ),
    ] = True,
    as_recorded: Annotated[
        bool,
        typer.Option(
            "--as-recorded",
            help="Repeat a recorded live run through the live loop, with its frames at their recorded times.",
        ),
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Segment every frame of a recorded clip.

    No frame is dropped, and each keeps its own time. Without --out, --records and --dicom only the latencies
    are shown. In a folder of clips one clip follows another, each into files of its own name.

    With --as-recorded a recorded live run is repeated: drops and states, then and now, side by side.
    """
    if as_recorded:
        from streamseg.cli.replay_as_recorded import check_options, repeat

        check_options(
            out=out,
            records=records,
            dicom=dicom,
            roi=roi,
            sar=sar,
            max_frames=max_frames,
            full_frame=full_frame,
            vessels=vessels,
        )
        repeat(source, engine=engine, start_seconds=start, as_json=as_json)
        return
    from streamseg.capture import list_clips
    from streamseg.capture.dicom.reference import read_reference
    from streamseg.cli.console import limit_opencv_threads
    from streamseg.cli.replay_clip import ReplayOptions
    from streamseg.cli.replay_outputs import check_outputs, plan_dicom, plan_outputs
    from streamseg.core.engine_info import EngineInfo
    from streamseg.core.pixel_aspect import parse_aspect
    from streamseg.core.types import Roi

    try:
        given = None if roi in ("auto", "none") else Roi.parse(roi)
    except UsageError as error:
        raise UsageError(f"--roi: {error}; or auto or none") from error
    options = ReplayOptions(
        given, roi == "auto", start, parse_aspect(sar), max_frames, full_frame, vessels, force
    )
    clips = list_clips(source, say=say)
    folder = clips != [source]
    plan = plan_outputs(clips, folder=folder, video=out, records=records or [])
    dicom_plan = plan_dicom(clips, dicom, burned_in=burned_in)
    check_outputs(list(chain.from_iterable((*plan, *dicom_plan))), clips, force=force)
    if dicom is not None and not folder:
        read_reference(Path(source))  # one that no result can refer to is found before an engine is loaded
    limit_opencv_threads()
    if given is not None:
        _check_roi(given, clips, start, options.sar)
    backend = load_engine(engine, throughput=True)
    try:
        with stop_on_signals() as stop:
            runs = _run_all(clips, plan, dicom_plan, backend, options, stop)
    finally:
        backend.close()
    engine_used = EngineInfo.of(backend).identity()
    if as_json:
        print_json({**(_summary(source, runs) if folder else runs[0].to_json()), "engine": engine_used})
    _conclude(runs, folder, stop)


def _check_roi(given: Roi, clips: list[str], start_seconds: float, sar: Fraction | None) -> None:
    """Raise UsageError for a rectangle that fits into none of the clips: before an engine is built."""
    from streamseg.capture import open_source
    from streamseg.core.errors import StreamsegError

    misfit: UsageError | None = None
    for clip in clips:
        try:
            with open_source(clip, start_seconds=start_seconds, sar=sar) as source:
                height, width = source.info.height, source.info.width
        except StreamsegError:
            return  # reported when its turn comes
        try:
            given.check_inside(height, width)
        except UsageError as error:
            misfit = misfit or error
        else:
            return
    if misfit is not None:
        raise misfit


def _run_all(
    clips: list[str],
    plan: list[list[Path]],
    dicom_plan: list[list[Path]],
    backend: Backend,
    options: ReplayOptions,
    stop: Stop,
) -> list[ClipReport]:
    """Replay clip after clip; one that fails is reported, and the others go on."""
    from streamseg.cli.latency_table import show_run
    from streamseg.cli.replay_clip import run_clip

    runs = []
    for clip, outputs, dicom in zip(clips, plan, dicom_plan, strict=True):
        run = run_clip(clip, outputs, backend, options, stop, dicom=dicom)
        show_run(run)
        runs.append(run)
        if run.error is not None and len(clips) > 1:
            say(f"error: {run.source}: {one_line(run.error)}")
        if stop:
            break
    return runs


def _summary(source: str, runs: list[ClipReport]) -> dict[str, Any]:
    """One object for a folder of clips: the sums, and an object for each clip."""
    frames, seconds = sum(run.frames for run in runs), sum(run.seconds for run in runs)
    failed = [run.source for run in runs if run.error is not None]
    clips = [run.to_json() for run in runs]
    return {
        "source": source,
        "frames": frames,
        "seconds": round(seconds, 3),
        "clips": clips,
        "outputs": [output for clip in clips for output in clip["outputs"]],
        "error": f"failed: {', '.join(failed)}" if failed else None,
    }


def _conclude(runs: list[ClipReport], folder: bool, stop: Stop) -> None:
    """Exit with the code of the error, else of the signal, else return."""
    from streamseg.core.errors import StreamsegError

    errors = [run.error for run in runs if run.error is not None]
    if errors and not folder:
        raise errors[0]
    if errors:
        raise StreamsegError(f"{len(errors)} of {len(runs)} clips failed, see above; the others are complete")
    if stop:
        written = [str(output.path) for run in runs for output in run.outputs]
        frames = sum(run.frames for run in runs)
        say(f"stopped by {stop.cause} after {frames} frames; finished {', '.join(written) or 'no files'}")
        raise typer.Exit(stop.exit_code)
