"""Writes chosen frames into a folder: images, drafts, tables, a contact sheet, a labelling format's files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from streamseg.annotation.choose import Choice
from streamseg.annotation.formats import format_of, image_folder
from streamseg.annotation.frames import (
    DRAFTS,
    SHEET,
    Draft,
    SelectedFrame,
    Selection,
    class_mask,
    write_image,
    write_mask,
)
from streamseg.core.errors import SinkError, UsageError
from streamseg.core.types import Image, Mask
from streamseg.datasets.reader import read_grey
from streamseg.render.contact_sheet import INK, PAPER, outlined, sheet
from streamseg.render.text import fit_size, put_text

CELL_WIDTH, CELL_HEIGHT, CAPTION = 300, 220, 38
"""Of the contact sheet, pixels."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, which gets the name if the block succeeds.

    A run that was killed leaves at most ``out.partial``, which the next one replaces. Raises UsageError if
    ``out`` exists and is not empty, SinkError if it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; choose another --out, or move it away")
    partial = out.with_name(f"{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise SinkError(
            f"cannot write {out}: {error.strerror or error}; choose a folder with space"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_selection(
    folder: Path, choices: Sequence[Choice], format_name: str, *, drafts: bool = True
) -> Selection:
    """Write the chosen frames, by recording and time, into a new folder, which may hold their candidates.

    ``drafts`` False leaves the net's outlines out: the frames show no structure. Raises UsageError for an
    unknown format, SinkError.
    """
    labelling = format_of(format_name)
    images, suffix = image_folder(format_name)
    ordered = sorted(choices, key=lambda choice: choice.candidate.name)
    frames, outlines, pictures = [], [], []
    for choice in ordered:
        one = choice.candidate
        frame = SelectedFrame(
            name=one.name,
            image=f"{images}/{one.name}{suffix}",
            height=one.height,
            width=one.width,
            recording=one.recording,
            frame=one.frame,
            seconds=None if one.seconds is None else round(one.seconds, 3),
            subject=one.subject,
            reason=choice.reason,
        )
        target = folder / frame.image
        target.parent.mkdir(parents=True, exist_ok=True)
        if format_name == "nnunet":
            write_image(target, read_grey(one.image))  # of one channel
        else:
            shutil.copyfile(one.image, target)
        masks = one.masks if drafts else {}
        write_mask(folder / DRAFTS / f"{one.name}.png", class_mask(masks, (one.height, one.width)))
        frames.append(frame)
        outlines.append(Draft(frame, masks))
        pictures.append(_cell(target, masks, f"{one.name}  subject {one.subject}", choice.reason))
    selection = Selection(folder, format_name, tuple(frames))
    labelling.write(folder, outlines)
    write_image(folder / SHEET, sheet(pictures))
    selection.write()
    return selection


def _cell(path: Path, masks: Mapping[str, Mask], title: str, caption: str) -> Image:
    """A frame with its drafts, small, over its name and reason: BGR uint8."""
    picture = outlined(read_grey(path), masks, CELL_WIDTH, CELL_HEIGHT)
    cell = np.full((CELL_HEIGHT + CAPTION, CELL_WIDTH, 3), PAPER, np.uint8)
    cell[:CELL_HEIGHT] = picture
    for line, (text, size) in enumerate(((title, 13), (caption, 12))):
        fitted = fit_size(text, size, CELL_WIDTH - 8)
        put_text(cell, text, 4, CELL_HEIGHT + 14 + 15 * line, fitted, colour=INK, background=PAPER)
    return cell


def reasons(choices: Sequence[Choice]) -> dict[str, int]:
    """Number of frames by what they were chosen for."""
    return dict(Counter(choice.aspect for choice in choices))
