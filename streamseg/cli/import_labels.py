"""``streamseg import``: labels of a labelling program to a data set."""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.console import print_json, put_path, say
from streamseg.cli.options import JsonOption
from streamseg.core.errors import DataError, UsageError, one_line
from streamseg.reporting.formatting import counted

if TYPE_CHECKING:
    from streamseg.annotation.frames import Selection
    from streamseg.annotation.importing import DatasetReport, Imported

LISTED = 20
"""Names that are listed without --json."""
MAX_UNZIPPED = 4 << 30
"""Bytes of what a zip holds."""
FORMAT_FOLDERS = ("masks", "images", "imagesTr", "labelsTr")
"""Folders that belong to a format, and do not only wrap it."""


def import_labels(
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="ANNOTATIONS",
            help="What the labelling program wrote: a file, folder or zip; or the folder that select wrote.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DATA", help="Data set, new or to be added to.")],
    selection: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that select wrote, or any folder of the images. Default: that of ANNOTATIONS.",
        ),
    ] = None,
    structures: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=nerve|vessel|ignore",
            help="What a name in the labels means; may be repeated.",
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="labelme|cvat|coco|labelstudio|nnunet|masks",
            help="Format of the labels. Default: recognised.",
        ),
    ] = None,
    all_looked_at: Annotated[
        bool,
        typer.Option("--all-looked-at", help="Every frame was looked at: its labels are right as they are."),
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out frames with bad labels instead of importing nothing."),
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Licence note of the data, which travels with weights trained on it."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import labels into a data set for train, check, evaluate and adapt.

    A frame counts as looked at if its labels differ from the net's draft, if the labelling program or the
    column looked_at of frames.csv says so, or with --all-looked-at. Other frames stay out, and drafts that
    nobody changed are named. Bad labels (an unknown structure, a polygon of two points, another size, a frame
    that was not selected, a broken file) are named in one line each; then nothing is written, unless with
    --skip-bad, and the exit code is 1.
    """
    from streamseg.annotation.frames import Review
    from streamseg.annotation.importing import parse_map, read_labels, write_dataset

    names = parse_map(structures or [])
    with ExitStack() as opened:
        path = _unzipped(annotations, opened)
        chosen = _selection(annotations, selection)
        found = read_labels(
            path, chosen, format_name=format_name, structures=names, all_looked_at=all_looked_at
        )
    for problem in found.problems:
        say(f"bad: {problem.replace(str(path), str(annotations))}")
    if found.problems and not skip_bad:
        raise DataError(
            f"{counted(len(found.problems), 'bad label')} in {annotations}, see above; nothing was imported "
            "(correct them, or leave their frames out with --skip-bad)"
        )
    _say_reviews(found)
    if not found.names(Review.LOOKED_AT):
        raise DataError(
            f"none of the {len(found.frames)} frames was looked at; change or confirm labels, mark frames in "
            "frames.csv, or give --all-looked-at"
        )
    written = write_dataset(out, found.frames, chosen, licence=licence)
    _report(written, out)
    if as_json:
        print_json(_values(out, found, written))
    else:
        put_path(out)


def _unzipped(path: Path, opened: ExitStack) -> Path:
    """The file or folder itself, or what a zip holds: programs export zips. Raises DataError."""
    if path.suffix.lower() != ".zip" or not path.is_file():
        return path
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="streamseg-")))
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_UNZIPPED:
                raise DataError(f"{path} would unpack to {size >> 20} MiB; give the file inside it")
            archive.extractall(folder)  # which keeps every path inside the folder
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"cannot unpack {path}: {one_line(error)}; export it again") from error
    files = [
        p for p in folder.rglob("*") if p.suffix.lower() in (".json", ".xml") and "__MACOSX" not in p.parts
    ]
    if len(files) == 1 and files[0].name != "dataset.json":
        return files[0]
    inside = list(folder.iterdir())
    while len(inside) == 1 and inside[0].is_dir() and inside[0].name not in FORMAT_FOLDERS:
        folder, inside = inside[0], list(inside[0].iterdir())
    return folder


def _selection(annotations: Path, given: Path | None) -> Selection:
    """The frames that the labels belong to. Raises UsageError."""
    from streamseg.annotation.frames import SELECTION, Selection, frames_of_images

    if given is not None:
        return Selection.read(given) if (given / SELECTION).exists() else frames_of_images(given)
    here = annotations.resolve()
    for folder in (here, *list(here.parents)[:3]):
        if (folder / SELECTION).exists():
            return Selection.read(folder)
    raise UsageError(
        f"{annotations} does not lie in a folder that 'streamseg select' wrote; name that folder, or the "
        "folder of the images, with --selection"
    )


def _say_reviews(found: Imported) -> None:
    from streamseg.annotation.frames import Review

    counts = ", ".join(f"{len(found.names(review))} {review}" for review in Review)
    say(f"{counted(len(found.frames), 'frame')}: {counts}")
    for review, what in (
        (Review.DRAFT, "drafts that nobody changed or confirmed, left out"),
        (Review.NOT_LOOKED_AT, "not looked at, left out"),
    ):
        if names := found.names(review):
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            say(f"{what}: {', '.join(names[:LISTED])}{more}")


def _report(written: DatasetReport, out: Path) -> None:
    frames = written.added + written.replaced
    say(
        f"imported {counted(frames, 'frame')}, {written.with_nerve} of them with nerve, "
        f"{frames - written.with_nerve} without; vessels {'are' if written.vessels else 'are not'} labelled"
    )
    say(f"{out} holds {counted(written.images, 'image')} ({written.replaced} replaced)")


def _values(out: Path, found: Imported, written: DatasetReport) -> dict[str, object]:
    from streamseg.annotation.frames import Review

    return {
        "out": str(out),
        "frames": len(found.frames),
        "looked_at": len(found.names(Review.LOOKED_AT)),
        "drafts": found.names(Review.DRAFT),
        "not_looked_at": found.names(Review.NOT_LOOKED_AT),
        "with_nerve": written.with_nerve,
        "vessels": written.vessels,
        "added": written.added,
        "replaced": written.replaced,
        "images": written.images,
        "bad": list(found.problems),
    }
