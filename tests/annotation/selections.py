"""Selections of a few made-up frames, for tests of the labelling formats."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from streamseg.annotation.formats import format_of, image_folder
from streamseg.annotation.frames import (
    DRAFTS,
    Draft,
    SelectedFrame,
    Selection,
    class_mask,
    write_image,
    write_mask,
)
from streamseg.core.types import Mask

HEIGHT, WIDTH = 37, 53


def disc(x: float, y: float, radius: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Mask:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def ring() -> Mask:
    """A mask with a hole, in two parts, at the edges of the image: what polygons lose."""
    mask = disc(12, 12, 9) & ~disc(12, 12, 4)
    mask[-3:, -5:] = True
    mask[0, :3] = True
    return mask


def make_frames(count: int = 4, format_name: str = "labelme") -> list[SelectedFrame]:
    folder, suffix = image_folder(format_name)
    return [
        SelectedFrame(
            name=f"48392{number}-{number:06d}",
            image=f"{folder}/48392{number}-{number:06d}{suffix}",
            height=HEIGHT,
            width=WIDTH,
            recording=f"48392{number}",
            frame=number,
            subject=str(number % 2),
        )
        for number in range(count)
    ]


def make_masks(number: int) -> dict[str, Mask]:
    """Of frame 0 a nerve with a hole and a vessel, of 1 a nerve, of 2 a vessel, of the others nothing."""
    none = np.zeros((HEIGHT, WIDTH), np.bool_)
    nerve = {0: ring(), 1: disc(30, 20, 6)}.get(number, none)
    vessel = {0: disc(40, 10, 5), 2: disc(20, 25, 7)}.get(number, none)
    return {"nerve": nerve & ~vessel, "vessel": vessel}


def write_selection(
    folder: Path, format_name: str, drafts: dict[int, dict[str, Mask]] | None = None
) -> Selection:
    """A selection of four frames with these drafts by number; the others have empty ones."""
    frames = make_frames(format_name=format_name)
    empty = {name: np.zeros((HEIGHT, WIDTH), np.bool_) for name in ("nerve", "vessel")}
    shown = [Draft(frame, (drafts or {}).get(number, empty)) for number, frame in enumerate(frames)]
    for number, draft in enumerate(shown):
        rng = np.random.default_rng(number)
        (folder / draft.frame.image).parent.mkdir(parents=True, exist_ok=True)
        image = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH), np.uint8), (0, 0), 2)
        write_image(folder / draft.frame.image, np.asarray(image, np.uint8))
        write_mask(folder / DRAFTS / f"{draft.frame.name}.png", class_mask(draft.masks, (HEIGHT, WIDTH)))
    selection = Selection(folder, format_name, tuple(frames))
    selection.write()
    format_of(format_name).write(folder, shown)
    return selection
