"""``streamseg archive``: segments thousands of clips into Parquet files."""

from __future__ import annotations

import time
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.options import EngineOption, JsonOption

if TYPE_CHECKING:
    from streamseg.archive.scheduler import Crew
    from streamseg.archive.segment import Job
    from streamseg.core.types import Backend, Roi


class Runner(StrEnum):
    """Where the workers are."""

    LOCAL = "local"
    RAY = "ray"


def archive(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES", help="Videos, DICOM files, or folders, which are searched with all below them."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; run again to go on.")],
    runner: Annotated[
        Runner, typer.Option(help="Workers on this machine, or on those of a Ray cluster.")
    ] = Runner.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            metavar="N",
            help="Number of workers. Default: one for two cores; here one more.",
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(metavar="i/n", help="Do the i-th of n parts only; every machine gets another."),
    ] = "1/1",
    masks: Annotated[
        bool, typer.Option("--masks", help="Also store the mask of each structure, run-length encoded.")
    ] = False,
    video: Annotated[
        bool, typer.Option("--video", help="Also write a video with outlines per clip.")
    ] = False,
    roi: Annotated[
        str,
        typer.Option(
            metavar="auto|none|x,y,w,h",
            help="The ultrasound image: found automatically, the whole frame, or a rectangle in pixels.",
        ),
    ] = "auto",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try the clips again that failed in an earlier run.")
    ] = False,
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment an archive of clips: one Parquet file of records per clip, exactly once each.

    A run that was stopped or killed goes on where it was when the command is given again. A broken clip gets
    a row in failed.parquet with its reason, and the others go on.
    """
    from streamseg.archive.clips import Shard, find_clips
    from streamseg.archive.folder import ArchiveFolder
    from streamseg.archive.scheduler import Scheduler
    from streamseg.archive.summary import summarise
    from streamseg.core.errors import SinkError, StreamsegError
    from streamseg.core.files import write_json
    from streamseg.reporting.formatting import counted

    part = Shard.parse(shard)
    given = _parse_roi(roi)
    found = [clip for clip in find_clips(sources, leave_out=out, say=say) if part.has(clip)]
    job = _job(out, engine, given, find_roi=roi == "auto", masks=masks, video=video)
    folder = ArchiveFolder(job.out)
    with folder.opened(job.describe(), part), stop_on_signals() as stop:
        done = folder.published() | (set() if retry_failed else folder.failures())
        clips = [clip for clip in found if clip.key not in done]
        say(f"{counted(len(found), 'clip')}, {len(found) - len(clips)} of them done before")
        started = time.monotonic()
        with Progress("archive", len(found), "clips", done=len(found) - len(clips)) as progress:

            def show(ended: int, frames: int) -> None:
                rate = frames / max(time.monotonic() - started, 1e-9)
                progress.advance_to(len(found) - len(clips) + ended, f"{frames} frames, {rate:.1f} frames/s")

            scheduler: Scheduler | None = None
            if clips:
                crew = _crew(runner, job, workers)
                scheduler = Scheduler(crew, folder, on_progress=show, say=progress.say)
                try:
                    scheduler.run(clips, lambda: bool(stop))
                except BaseException:
                    with suppress(SinkError):  # a full disk may be what ended the run
                        folder.write_failed()
                    raise
        seconds = time.monotonic() - started
        failed = folder.write_failed()
        summary = {**summarise(folder), "failed": failed, "engine": job.engine}
        write_json(folder.root / "summary.json", summary)
    published, frames = (scheduler.published, scheduler.frames) if scheduler else (0, 0)
    run = {
        "clips": published,
        "frames": frames,
        "seconds": round(seconds, 3),
        "skipped": len(found) - len(clips),
    }
    say(_describe(run, summary, out))
    if as_json:
        print_json({"out": str(out), "run": run, **summary})
    if stop:
        say(f"stopped by {stop.cause}; run the same command again to go on")
        raise typer.Exit(stop.exit_code)
    if failed:
        raise StreamsegError(
            f"{counted(failed, 'clip')} failed, see {out / 'failed.parquet'}; the others are complete"
        )


def _parse_roi(text: str) -> Roi | None:
    from streamseg.core.errors import UsageError
    from streamseg.core.types import Roi

    try:
        return None if text in ("auto", "none") else Roi.parse(text)
    except UsageError as error:
        raise UsageError(f"--roi: {error}; or auto or none") from error


def _job(
    out: Path, engine: str | None, given: Roi | None, *, find_roi: bool, masks: bool, video: bool
) -> Job:
    """What the workers do. The engine is loaded here once: so that an error comes early, and for its name."""
    from streamseg.archive.segment import Job
    from streamseg.core.engine_info import EngineInfo

    backend = load_engine(engine, throughput=True)
    identity = EngineInfo.of(backend).identity()
    backend.close()
    return Job(
        out=out.resolve(),
        engine=identity,
        load=partial(_load, engine),
        roi=given,
        find_roi=find_roi,
        masks=masks,
        video=video,
    )


def _load(engine: str | None, threads: int) -> Backend:
    return load_engine(engine, throughput=True, threads=threads)


def _crew(runner: Runner, job: Job, workers: int | None) -> Crew:
    if runner is Runner.RAY:
        from streamseg.archive.ray_cluster import RayCrew

        return RayCrew(job, workers)
    from streamseg.archive.local import LocalCrew

    return LocalCrew(job, workers)


def _describe(run: dict[str, Any], summary: dict[str, Any], out: Path) -> str:
    """The outcome for people: this run, then the whole folder."""
    rate = run["frames"] / max(run["seconds"], 1e-9)
    states = ", ".join(f"{state} {count}" for state, count in summary["states"].items()) or "none"
    lines = [
        f"this run: {run['clips']} clips, {run['frames']} frames in {run['seconds']:.1f} s, "
        f"{rate:.1f} frames/s",
        f"{out}: {summary['clips']} clips, {summary['frames']} frames ({states}); failed {summary['failed']}",
    ]
    for name, structure in summary["structures"].items():
        unit, area = ("mm²", structure["area_mm2"]) if structure["area_mm2"] else ("px", structure["area_px"])
        if area is not None:
            lines.append(
                f"  {name}: outlined in {structure['outlined']} frames, area p50 {area['p50']:g} {unit} "
                f"(p5 {area['p5']:g}, p95 {area['p95']:g})"
            )
    return "\n".join(lines)
