"""Labels of a labelling program to a data set for training.

A data set's folder holds ``images/``, ``masks/``, ``subjects.csv``, ``labels.csv`` (recording, frame and
structures of each image) and, if one was given, ``licence.txt``. Frames that nobody looked at stay out: the
net would be taught its own mistakes.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamseg.annotation.formats import format_of, recognise
from streamseg.annotation.formats.reading import Reading
from streamseg.annotation.frames import (
    STRUCTURES,
    LabelledFrame,
    Labels,
    Review,
    SelectedFrame,
    Selection,
    by_name,
    class_mask,
    write_image,
    write_mask,
)
from streamseg.core.errors import DataError, SinkError, UsageError, one_line
from streamseg.core.files import read_file, write_text
from streamseg.core.types import Mask
from streamseg.datasets.reader import LICENCE_FILE, SUBJECTS_FILE, read_grey

IGNORED = ("ignore", "background", "_background_")
"""Targets of a map that mean: no structure; the last two are also names that programs use for it."""
LABELS_FILE = "labels.csv"
LABEL_COLUMNS = ("name", "recording", "frame", "subject", "structures")


@dataclass(frozen=True, slots=True)
class Imported:
    """The labels of a selection, and what was wrong with them."""

    frames: tuple[LabelledFrame, ...]
    """All frames of the selection, looked at or not, but for those with bad labels."""
    problems: tuple[str, ...]
    """One line each, with the file."""

    def names(self, review: Review) -> list[str]:
        """Names of the frames in one state."""
        return [one.frame.name for one in self.frames if one.review is review]


def parse_map(entries: Sequence[str]) -> dict[str, str]:
    """Names of structures in the labels to ours, from ``name=structure``. Raises UsageError."""
    found = {}
    for entry in entries:
        name, equals, target = entry.rpartition("=")
        if not equals or not name or target not in (*STRUCTURES, *IGNORED):
            known = ", ".join((*STRUCTURES, IGNORED[0]))
            raise UsageError(f"--map {entry!r} is not NAME=STRUCTURE; the structures are {known}")
        found[name] = target
    return found


def read_labels(
    path: Path,
    selection: Selection,
    *,
    format_name: str | None = None,
    structures: Mapping[str, str] | None = None,
    all_looked_at: bool = False,
) -> Imported:
    """Read the labels of a selection's frames from a labelling program's file or folder.

    ``structures`` maps names in the labels to ours; those of ours need no entry. A frame counts as looked at
    if its labels differ from the draft, if the program or the table ``frames.csv`` says so, or with
    ``all_looked_at``. Raises UsageError for an unknown format, DataError for a damaged table or draft.
    """
    format_name = format_name or recognise(path)
    reading = Reading(by_name(selection.frames))
    try:
        format_of(format_name).read(path, reading)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as {format_name}: {one_line(error)}") from error
    labels = {one.name: one for one in reading.labels}
    marked = selection.looked_at()
    problems = list(reading.problems)
    bad = _unknown_structures(reading.labels, structures or {}, problems) | _bad_images(selection, problems)
    frames = []
    for frame in selection.frames:
        if frame.name in bad:
            continue
        own = labels.get(frame.name)
        masks = _mapped(own, structures or {}, frame)
        draft = selection.draft(frame)
        looked_at = all_looked_at or frame.name in marked or (own is not None and own.looked_at)
        changed = own is not None and not _same(masks, draft, frame)
        shown = masks if own else {**masks, **draft}
        frames.append(LabelledFrame(frame, shown, _review(looked_at or changed, draft)))
    return Imported(tuple(frames), tuple(problems))


def _review(looked_at: bool, draft: Mapping[str, Mask]) -> Review:
    if looked_at:
        return Review.LOOKED_AT
    return Review.DRAFT if any(mask.any() for mask in draft.values()) else Review.NOT_LOOKED_AT


def _unknown_structures(
    labels: Iterable[Labels], structures: Mapping[str, str], problems: list[str]
) -> set[str]:
    """Names of the frames with structures that are not known, each with a problem."""
    known = {*STRUCTURES, *IGNORED, *structures}
    bad = set()
    for one in labels:
        for name in sorted(one.masks.keys() - known):
            bad.add(one.name)
            problems.append(
                f"{one.file}, frame {one.name}: unknown structure {name!r}; "
                f"--map {name}={'|'.join((*STRUCTURES, IGNORED[0]))} says what it is"
            )
    return bad


def _bad_images(selection: Selection, problems: list[str]) -> set[str]:
    """Names of the frames whose images are missing, damaged or of another size, each with a problem."""
    bad = set()
    for frame in selection.frames:
        path = selection.image(frame)
        try:
            height, width = read_grey(path).shape
        except DataError as error:
            problems.append(one_line(error))
            bad.add(frame.name)
            continue
        if (height, width) != (frame.height, frame.width):
            problems.append(
                f"{path}: it is {width}x{height}, it was selected as {frame.width}x{frame.height}; restore it"
            )
            bad.add(frame.name)
    return bad


def _mapped(labels: Labels | None, structures: Mapping[str, str], frame: SelectedFrame) -> dict[str, Mask]:
    """The labels' masks by our structures; what has no label is empty."""
    masks = {name: np.zeros((frame.height, frame.width), np.bool_) for name in STRUCTURES}
    for name, mask in {} if labels is None else labels.masks.items():
        target = structures.get(name, name)
        if target not in IGNORED:
            masks[target] |= mask
    return masks


def _same(masks: Mapping[str, Mask], draft: Mapping[str, Mask], frame: SelectedFrame) -> bool:
    shape = frame.height, frame.width
    return bool(np.array_equal(class_mask(masks, shape), class_mask(draft, shape)))


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a data set became."""

    added: int
    replaced: int
    images: int
    """All images in it now."""
    with_nerve: int
    """Of the frames written now."""
    vessels: bool
    """Whether vessels count as labelled in the frames written now: at least one frame shows one."""


def write_dataset(
    out: Path, frames: Sequence[LabelledFrame], selection: Selection, *, licence: str | None = None
) -> DatasetReport:
    """Write the frames that were looked at into a data set, new or there already.

    A frame of the same name is replaced. The folder changes as a whole: after a kill at any moment the next
    call finds it as it was before, or as it is afterwards. Raises DataError for a damaged data set, and
    SinkError.
    """
    looked_at = [one for one in frames if one.review is Review.LOOKED_AT]
    vessels = any(one.masks["vessel"].any() for one in looked_at)
    partial, replaced = (out.with_name(f"{out.name}.{state}") for state in ("partial", "replaced"))
    try:
        if replaced.exists():
            _recover(out, replaced)
        shutil.rmtree(partial, ignore_errors=True)
        _copy(out, partial)
        rows = _read_rows(partial / LABELS_FILE)
        _check_ours(partial, rows)
        before = len(rows)
        for one in looked_at:
            _write_frame(partial, one, selection, vessels=vessels)
            rows[one.frame.name] = _row(one)
        _write_tables(partial, rows)
        if licence:
            write_text(partial / LICENCE_FILE, licence.strip() + "\n")
        if out.exists():
            out.rename(replaced)
        partial.rename(out)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise SinkError(
            f"cannot write {out}: {error.strerror or error}; choose a folder with space"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    added = len(rows) - before
    nerves = sum(bool(one.masks["nerve"].any()) for one in looked_at)
    return DatasetReport(added, len(looked_at) - added, len(rows), nerves, vessels)


def _recover(out: Path, replaced: Path) -> None:
    """After a kill between two renames: the old folder is back, or gone if the new one is in place."""
    if out.exists():
        shutil.rmtree(replaced)
    else:
        replaced.rename(out)


def _copy(out: Path, partial: Path) -> None:
    if out.exists():
        shutil.copytree(out, partial)
    else:
        partial.mkdir(parents=True)


def _check_ours(folder: Path, rows: Mapping[str, object]) -> None:
    """Raise DataError for a folder with images that no import wrote: its layout may be another one."""
    if not rows and any(folder.iterdir()):
        raise DataError(
            f"{folder.name.removesuffix('.partial')} holds files that no import wrote; choose another --out"
        )


def _write_frame(folder: Path, one: LabelledFrame, selection: Selection, *, vessels: bool) -> None:
    frame = one.frame
    write_image(folder / "images" / f"{frame.name}.png", read_grey(selection.image(frame)))
    mask = folder / "masks" / f"{frame.name}.png"
    if vessels:
        write_mask(mask, class_mask(one.masks, (frame.height, frame.width)))
    else:  # 0 and 255 say that vessels are not labelled; 0, 1 and 2 that there is none where there is no 2
        write_image(mask, one.masks["nerve"].astype(np.uint8) * np.uint8(255))


def _row(one: LabelledFrame) -> tuple[str, ...]:
    frame = one.frame
    shown = [name for name, mask in one.masks.items() if mask.any()]
    return frame.name, frame.recording, str(frame.frame), frame.subject, " ".join(shown)


def _read_rows(path: Path) -> dict[str, tuple[str, ...]]:
    """The lines of ``labels.csv`` by name. Raises DataError for a damaged one."""
    try:
        rows = csv.DictReader(io.StringIO(read_file(path).decode("utf-8-sig")), strict=True)
        return {row["name"]: tuple(row[column] or "" for column in LABEL_COLUMNS) for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"cannot read {path.name}: {one_line(error)}; restore its columns") from error


def _write_tables(folder: Path, rows: Mapping[str, tuple[str, ...]]) -> None:
    """``labels.csv``, and ``subjects.csv`` if every subject is known."""
    ordered = [rows[name] for name in sorted(rows)]
    _write_table(folder / LABELS_FILE, LABEL_COLUMNS, ordered)
    subject = LABEL_COLUMNS.index("subject")
    if all(row[subject] for row in ordered):
        _write_table(folder / SUBJECTS_FILE, ("name", "subject"), [(row[0], row[subject]) for row in ordered])
    else:
        (folder / SUBJECTS_FILE).unlink(missing_ok=True)


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
