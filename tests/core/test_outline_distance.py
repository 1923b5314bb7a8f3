"""The distance between two outlines is that of their closest pixels, whatever their shapes."""

import cv2
import numpy as np
import pytest

from streamseg.core.outline_distance import nerve_vessel_distance_mm, outline_points
from streamseg.core.types import Segmentation, State, Structure

SHAPE = (160, 200)


def outlines(mask):
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return tuple(contour[:, 0] for contour in found)


def distance(nerve, vessel, spacing_mm=(0.1, 0.1)):
    """Of two masks, uint8 (H, W); ``vessel`` None: the engine outlines none."""
    others = {}
    if vessel is not None:
        others["vessel"] = Structure(
            vessel.astype(bool), outlines(vessel), int(vessel.sum()), None, None, 0.9
        )
    found = Segmentation(
        nerve.astype(bool), outlines(nerve), int(nerve.sum()), None, None, 0.8, State.NERVE, others=others
    )
    return nerve_vessel_distance_mm(found, spacing_mm)


def box(left, top, right, bottom):
    mask = np.zeros(SHAPE, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def blob(rng):
    """One to three ragged parts anywhere in the image."""
    mask = np.zeros(SHAPE, np.uint8)
    for _ in range(rng.integers(1, 4)):
        centre = rng.integers((15, 15), (SHAPE[1] - 15, SHAPE[0] - 15))
        around = np.linspace(0, 2 * np.pi, rng.integers(3, 12), endpoint=False)
        reach = rng.uniform(2, 30, len(around))
        corners = centre + np.stack([reach * np.cos(around), reach * np.sin(around)], axis=1)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], 1)
    return mask


def expected(nerve, vessel, spacing_mm):
    """By comparing every pixel with every other."""
    first, second = (np.argwhere(mask)[:, None] for mask in (nerve, vessel))
    apart = first - second.reshape(1, -1, 2)
    if np.abs(apart).max(axis=2).min() <= 1:
        return 0.0
    return float(np.hypot(*np.moveaxis(apart * spacing_mm, 2, 0)).min())


@pytest.mark.parametrize("seed", range(25))
def test_it_is_that_of_the_closest_pixels_of_any_shapes(seed):
    rng = np.random.default_rng(seed)
    nerve, vessel = blob(rng), blob(rng)
    spacing_mm = tuple(rng.uniform(0.03, 0.3, 2))
    # Holes are filled in what postprocessing finds.
    for mask in (nerve, vessel):
        cv2.drawContours(mask, [contour[:, None] for contour in outlines(mask)], -1, 1, cv2.FILLED)
    assert distance(nerve, vessel, spacing_mm) == pytest.approx(expected(nerve, vessel, spacing_mm), abs=1e-9)


def test_it_counts_rows_and_columns_in_their_own_spacing():
    assert distance(box(10, 10, 20, 20), box(29, 10, 40, 20), (0.1, 0.2)) == pytest.approx(10 * 0.2)
    assert distance(box(10, 10, 20, 20), box(10, 29, 20, 40), (0.1, 0.2)) == pytest.approx(10 * 0.1)
    assert distance(box(10, 10, 20, 20), box(22, 23, 40, 40), (0.1, 0.1)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "vessel",
    [
        box(20, 10, 30, 20),  # neighbours
        box(20, 20, 30, 30),  # neighbours at a corner
        box(15, 5, 30, 30),  # crossing
        box(13, 13, 15, 15),  # one in the other, where the outlines do not meet
        box(0, 0, 50, 50),
    ],
)
def test_it_is_0_where_they_touch(vessel):
    assert distance(box(10, 10, 20, 20), vessel) == 0.0
    assert distance(vessel, box(10, 10, 20, 20)) == 0.0


def test_it_is_unknown_without_one_of_them_or_a_spacing():
    nerve, nothing = box(10, 10, 20, 20), np.zeros(SHAPE, np.uint8)
    assert distance(nerve, nothing) is None
    assert distance(nothing, nerve) is None
    assert distance(nerve, None) is None
    for spacing_mm in (None, (0.0, 0.1), (float("nan"), 0.1), (0.1, float("inf"))):
        assert distance(nerve, box(40, 10, 50, 20), spacing_mm) is None


def test_the_points_of_an_outline_are_all_of_its_pixels():
    mask = blob(np.random.default_rng(3))
    whole, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = outline_points(outlines(mask))
    assert {tuple(point) for point in points.astype(int)} == {
        tuple(point) for contour in whole for point in contour[:, 0]
    }
    assert outline_points([np.array([[5, 7]], np.int32)]).tolist() == [[5, 7]]
