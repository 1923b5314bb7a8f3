"""Views for the tests of the page: a phantom with its true nerve as the outline, as live."""

import time
from dataclasses import replace
from functools import cache

import cv2
import numpy as np

from streamseg.core.latency import Percentiles
from streamseg.core.types import Frame, Roi, Segmentation, State, Structure
from streamseg.core.view import Figures, View
from streamseg.phantom import PhantomVideo

HEIGHT, WIDTH = 420, 580
MARGIN = 40
"""Of the screen around the region; it is filled with a colour that must never be seen."""
FORBIDDEN = (255, 0, 255)


@cache
def stills(count: int = 6, seed: int = 3):
    """Frames of a phantom (height, width) with the masks of their nerve and vessels, and the millimetres per
    pixel."""
    video = PhantomVideo(seed, height=HEIGHT, width=WIDTH, nerve=True)
    made = []
    for index in range(count):
        still = video.frame(2 * index)
        made.append((still.image, still.nerve, still.vessel))
    return made, video.spacing_mm


def contours_of(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Outer outlines of a mask of a region, in pixels of the screen."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return tuple(contour[:, 0] + MARGIN for contour in found)


def figures(number: int, recording: str | None = None) -> Figures:
    times = Percentiles(100, 24.1, 29.0, 33.3, 41.0)
    return Figures(
        offered=2 * number,
        processed=number,
        dropped=number,
        reconnects=1,
        offered_fps=59.9,
        processed_fps=29.9,
        recording=recording,
        age=Percentiles(100, 48.0, 61.0, 70.0, 90.0),
        stages={"preprocess": Percentiles(100, 1.1, 1.5, 2.0, 3.0), "infer": times, "postprocess": times},
    )


def view(
    number: int,
    state: State = State.NERVE,
    *,
    outline: bool | None = None,
    age_s: float = 0.04,
    budget_s: float = 0.15,
    picture: int | None = None,
    reason: str = "",
    colour: bool = True,
    recording: str | None = None,
    vessels: bool = False,
) -> View:
    """View ``number`` of the phantom inside a larger screen, captured ``age_s`` ago.

    ``vessels``: of an engine that outlines those too.
    """
    made, spacing = stills()
    image, mask, vessel = made[(number if picture is None else picture) % len(made)]
    shape = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    if colour:
        screen = np.full((*shape, 3), FORBIDDEN, np.uint8)
        screen[MARGIN:-MARGIN, MARGIN:-MARGIN] = image[..., None]
    else:
        screen = np.full(shape, 255, np.uint8)
        screen[MARGIN:-MARGIN, MARGIN:-MARGIN] = image
    now = time.monotonic_ns()
    captured = now - round(age_s * 1e9)
    found = None
    outlined = state in (State.NERVE, State.LOW_CONFIDENCE)
    if outline if outline is not None else outlined or (vessels and state is State.NO_NERVE):
        nerve = mask if outlined else np.zeros_like(mask)
        area, size = int(nerve.sum()), spacing[0] * spacing[1]
        found = Segmentation(
            np.pad(nerve, MARGIN), contours_of(nerve), area, area * size, (0.0, 0.0), 0.87, state
        )
        if vessels:
            area = int(vessel.sum())
            both = Structure(np.pad(vessel, MARGIN), contours_of(vessel), area, area * size, (0.0, 0.0), 0.9)
            found = replace(found, others={"vessel": both})
    return View(
        number,
        now,
        state,
        reason=reason,
        frame=Frame(screen, number, captured, number / 30, spacing),
        roi=Roi(MARGIN, MARGIN, WIDTH, HEIGHT),
        segmentation=found,
        expires_ns=captured + round(budget_s * 1e9) if found is not None else None,
        figures=figures(number, recording),
    )
