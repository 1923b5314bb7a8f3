"""``streamseg select``: chooses the frames of recordings that are worth labelling."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.console import Progress, Stop, print_json, put_path, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.options import EngineOption, JsonOption
from streamseg.core.errors import StreamsegError, UsageError, one_line
from streamseg.reporting.formatting import counted

if TYPE_CHECKING:
    from streamseg.annotation.candidates import Candidate, ReadOptions
    from streamseg.annotation.choose import Choice
    from streamseg.segmentation.segmenter import Segmenter

CANDIDATES_EACH = 20
"""Candidates read for each frame that is asked for."""
MOST_OF_ONE = 400
"""Maximum number of candidates of one recording."""
NEXT = {
    "labelme": "labelme {out}/images --labels nerve,vessel --flags 'looked at' --nodata --autosave",
    "cvat": "create a task from {out}/images with the labels of {out}/cvat-labels.json, then upload "
    "{out}/annotations.xml as 'CVAT 1.1'",
    "coco": "open {out}/images with {out}/annotations.json",
    "labelstudio": "use {out}/label-config.xml as the interface, and import {out}/tasks.json",
    "nnunet": "correct {out}/labelsTr, and write yes into looked_at of {out}/frames.csv",
    "masks": "correct {out}/masks, and write yes into looked_at of {out}/frames.csv",
}


def select(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="Recordings: videos, DICOM files, folders of images or clips, recorded live runs, phantom:.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder of the frames to label.")],
    frames: Annotated[int, typer.Option("--frames", min=1, metavar="N", help="Frames to choose.")] = 60,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="labelme|cvat|coco|labelstudio|nnunet|masks",
            help="Labelling program that the drafts are written for.",
        ),
    ] = "labelme",
    strategy: Annotated[
        str,
        typer.Option(
            metavar="mixed|spread|unsure|random",
            help="Choose for kinds of picture and doubts of the net in turn, for either, or by chance.",
        ),
    ] = "mixed",
    known: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", help="Labelled images, to which no chosen frame is near-identical."),
    ] = None,
    subject: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of the person in all these recordings. Default: each is a subject of its own.",
        ),
    ] = None,
    roi: Annotated[
        str,
        typer.Option(
            metavar="auto|none|x,y,w,h",
            help="The ultrasound image: found automatically, the whole frame, or a rectangle in pixels.",
        ),
    ] = "auto",
    drafts: Annotated[
        bool,
        typer.Option(
            "--drafts/--no-drafts",
            help="Write the net's outlines as drafts, or none: for recordings that show no nerve at all.",
        ),
    ] = True,
    engine: EngineOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of --strategy random.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Choose the frames of recordings that teach a net most, and write them out to be labelled.

    Frames are spread over subjects, recordings and kinds of picture; some are chosen because the net is
    unsure, disagrees with itself on the mirror image, flickers, or was trained on nothing like them. None is
    near-identical to another. Only the ultrasound image is written, with the net's outlines as a draft. The
    table frames.csv has the reason for each frame, contact-sheet.png shows all of them.

    --format masks --no-drafts makes a data set of images without nerve, for train --absent: look at the
    contact sheet, and take out frames that show a nerve.
    """
    from streamseg.annotation.candidates import prints_of_datasets
    from streamseg.annotation.choose import ASPECTS, choose
    from streamseg.annotation.formats import format_of
    from streamseg.annotation.selecting import new_folder, reasons, write_selection
    from streamseg.segmentation.segmenter import Segmenter

    format_of(format_name)
    if strategy not in ASPECTS:
        raise UsageError(f"no strategy is called {strategy!r}; choose one of {', '.join(ASPECTS)}")
    clips = _clips(sources)
    options = _options(frames, len(clips), roi, subject)
    prints = prints_of_datasets(known or [])
    with new_folder(out) as folder, stop_on_signals() as stop:
        scratch = folder / "candidates"
        scratch.mkdir()
        backend = load_engine(engine)
        try:
            found, failed = _read_all(clips, Segmenter(backend, withhold=False), scratch, options, stop)
        finally:
            backend.close()
        if stop:
            say(f"stopped by {stop.cause}; nothing was written")
            raise typer.Exit(stop.exit_code)
        choices = choose(found, frames, strategy=strategy, known=prints, seed=seed)
        if not choices:
            raise UsageError(_nothing(found, failed))
        selection = write_selection(folder, choices, format_name, drafts=drafts)
        shutil.rmtree(scratch)
    subjects = len({frame.subject for frame in selection.frames})
    _report(choices, found, subjects, frames)
    if subject is None and len(clips) > 1:
        say("each recording counts as a subject; select those of one person together, with --subject")
    if drafts:
        say(f"to label: {NEXT[format_name].format(out=out)}")
        say(f"then: streamseg import {out} --out data")
    else:
        say(f"look at {out}/contact-sheet.png: none of the frames may show a nerve")
    if as_json:
        print_json(
            {
                "out": str(out),
                "frames": len(choices),
                "candidates": len(found),
                "subjects": subjects,
                "format": format_name,
                "reasons": reasons(choices),
                "failed": failed,
            }
        )
    else:
        put_path(out)


def _clips(sources: list[str]) -> list[str]:
    """The recordings, each once."""
    from streamseg.capture import list_clips

    return list(dict.fromkeys(clip for source in sources for clip in list_clips(source)))


def _options(frames: int, clips: int, roi: str, subject: int | None) -> ReadOptions:
    from streamseg.annotation.candidates import ReadOptions
    from streamseg.core.types import Roi

    try:
        given = None if roi in ("auto", "none") else Roi.parse(roi)
    except UsageError as error:
        raise UsageError(f"--roi: {error}; or auto or none") from error
    limit = min(MOST_OF_ONE, max(CANDIDATES_EACH, -(-CANDIDATES_EACH * frames // clips)))
    return ReadOptions(limit, given, roi == "auto", "" if subject is None else str(subject))


def _nothing(found: list[Candidate], failed: list[str]) -> str:
    """Why no frame was chosen."""
    if failed:
        return f"no recording could be read ({', '.join(failed)}), see above"
    if found:
        return "every frame is near-identical to an image that is labelled already; give other recordings"
    return "the recordings hold no frames; give others"


def _read_all(
    clips: list[str], segmenter: Segmenter, scratch: Path, options: ReadOptions, stop: Stop
) -> tuple[list[Candidate], list[str]]:
    """The candidates of all recordings, and the names of those that failed, which are reported."""
    from streamseg.annotation.candidates import read_candidates

    found: list[Candidate] = []
    failed: list[str] = []
    for clip in clips:
        with Progress(Path(clip).name, None) as progress:
            try:
                new = read_candidates(
                    clip,
                    segmenter,
                    scratch,
                    options,
                    say=say,
                    advance=progress.advance,
                    should_stop=lambda: bool(stop),
                )
            except StreamsegError as error:
                if len(clips) == 1:
                    raise
                say(f"error: {Path(clip).name}: {one_line(error)}")
                failed.append(Path(clip).name)
                continue
        if stop:
            break
        if new:
            say(f"{Path(clip).name}: recording {new[0].recording}, {counted(len(new), 'candidate')}")
        found += new
    return found, failed


def _report(choices: list[Choice], found: list[Candidate], subjects: int, wanted: int) -> None:
    from streamseg.annotation.selecting import reasons

    parts = ", ".join(f"{aspect} {count}" for aspect, count in reasons(choices).items())
    say(
        f"chose {len(choices)} of {counted(len(found), 'candidate')}, {counted(subjects, 'subject')}: {parts}"
    )
    if len(choices) < wanted:
        say(f"{wanted} were asked for; all others are near-identical to these or to images labelled already")
