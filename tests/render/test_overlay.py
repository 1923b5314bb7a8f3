from dataclasses import replace

import cv2
import numpy as np
import pytest

from streamseg.core.types import Roi, Segmentation, State
from streamseg.render import draw_overlay
from streamseg.render.overlay import (
    CYAN,
    NERVE_LINES,
    ORANGE,
    VESSEL_LINE,
    YELLOW,
    draw_line_sample,
    paint_overlay,
)
from tests.render.colour_vision import EYES, contrast, difference
from tests.render.examples import near, segmentation, with_vessel


def share_of(image, colour) -> float:
    return float(np.mean(np.all(np.abs(image.astype(int) - colour) < 12, axis=-1)))


@pytest.mark.parametrize("grey_level", [0, 128, 255])
def test_outline_stands_out_on_dark_and_bright_tissue(grey_level):
    image = np.full((200, 300), grey_level, np.uint8)
    image.flags.writeable = False
    drawn = draw_overlay(image, segmentation(State.NERVE))
    assert drawn.shape == (200, 300, 3)
    assert share_of(drawn, YELLOW) > 0.003
    # The dark rim: on any background there are dark pixels right beside bright ones.
    outline = np.all(np.abs(drawn.astype(int) - YELLOW) < 12, axis=-1).astype(np.uint8)
    beside = (cv2.dilate(outline, np.ones((5, 5), np.uint8)) > 0) & (outline == 0)
    assert drawn[beside].min() < 40
    assert np.all(image == grey_level)


def test_fill_tints_the_inside_only():
    image = np.full((200, 300, 3), 100, np.uint8)
    drawn = draw_overlay(image, segmentation(State.NERVE), opacity=0.5)
    np.testing.assert_allclose(drawn[90, 150], (100 + np.array(YELLOW)) / 2, atol=1)
    assert np.all(drawn[:20] == 100)
    assert np.all(draw_overlay(image, segmentation(State.NERVE), opacity=0)[90, 150] == 100)
    assert np.all(image == 100)


def test_low_confidence_differs_by_more_than_colour():
    image = np.full((200, 300), 100, np.uint8)
    sure = draw_overlay(image, segmentation(State.NERVE))
    unsure = draw_overlay(image, segmentation(State.LOW_CONFIDENCE))
    lines = np.all(np.abs(unsure.astype(int) - ORANGE) < 12, axis=-1).astype(np.uint8)
    parts, _ = cv2.connectedComponents(lines)
    assert parts > 8
    assert share_of(unsure, ORANGE) < 0.8 * share_of(sure, YELLOW)


@pytest.mark.parametrize("state", [State.NO_NERVE, State.UNLIKE_TRAINING])
def test_nothing_is_drawn_without_a_nerve(state):
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    drawn = draw_overlay(image, segmentation(state, image.shape[:2]))
    assert np.array_equal(drawn, image)
    assert drawn is not image


@pytest.mark.parametrize("state", [State.NERVE, State.LOW_CONFIDENCE])
@pytest.mark.parametrize(
    "points", [[[0, 0]], [[5, 5], [6, 5]], [[0, 0], [9, 0], [9, 9], [0, 9]], [[3, 3], [3, 3], [3, 3], [3, 3]]]
)
def test_degenerate_outlines_are_drawn_too(state, points):
    outline = np.array(points, np.int32)
    segment = Segmentation(np.ones((10, 10), bool), (outline,), 1, None, (0.0, 0.0), 0.5, state)
    assert draw_overlay(np.zeros((10, 10), np.uint8), segment).any()
    big = np.zeros((100, 100, 3), np.uint8)
    paint_overlay(big, segment, scale=(10.0, 10.0))
    assert big.any()


def test_outline_outside_the_canvas_is_cut_off():
    canvas = np.zeros((40, 40, 3), np.uint8)
    paint_overlay(canvas, segmentation(State.NERVE), origin=(250, 150))
    assert not canvas.any()
    paint_overlay(canvas, segmentation(State.NERVE), origin=(190, 90))
    assert canvas.any()


def test_enlarged_outline_lies_where_the_mask_lies():
    segment = segmentation(State.NERVE, (64, 64), (30, 30), (12, 9))
    canvas = np.zeros((512, 512, 3), np.uint8)
    paint_overlay(canvas, segment, scale=(8.0, 8.0), opacity=1.0)
    inside = canvas.any(axis=-1)
    mask = cv2.resize(segment.mask.astype(np.uint8), (512, 512), interpolation=cv2.INTER_NEAREST) > 0
    assert (inside & mask).sum() / (inside | mask).sum() > 0.93
    ys, xs = np.nonzero(inside)
    assert (ys.mean(), xs.mean()) == pytest.approx((30.5 * 8 - 0.5, 30.5 * 8 - 0.5), abs=1.5)


def test_line_width_follows_the_image():
    def ink(size):
        segment = segmentation(State.NERVE, (size, size), (size // 2, size // 2), (size // 4, size // 4))
        drawn = draw_overlay(np.zeros((size, size), np.uint8), segment, opacity=0)
        return share_of(drawn, YELLOW)

    assert ink(1200) == pytest.approx(ink(600), rel=0.5)


def test_a_vessel_is_dotted_beside_the_nerve_and_has_no_fill():
    image = np.full((200, 300), 100, np.uint8)
    found = with_vessel(segmentation(State.NERVE))
    drawn = draw_overlay(image, found)
    dots, _ = cv2.connectedComponents(near(drawn, CYAN).astype(np.uint8))
    line, _ = cv2.connectedComponents(near(drawn, YELLOW).astype(np.uint8))
    assert dots > 8 > line
    assert np.all(drawn[100, 250] == 100)
    without = draw_overlay(image, found, vessels=False)
    assert np.array_equal(without, draw_overlay(image, segmentation(State.NERVE)))
    assert np.array_equal(drawn[:, :210], without[:, :210])


@pytest.mark.parametrize(
    ("state", "drawn"),
    [
        (State.NERVE, True),
        (State.LOW_CONFIDENCE, True),
        (State.NO_NERVE, True),
        (State.UNLIKE_TRAINING, False),
    ],
)
def test_a_vessel_needs_no_nerve_but_an_image_that_the_net_knows(state, drawn):
    picture = draw_overlay(np.zeros((200, 300), np.uint8), with_vessel(segmentation(state)))
    assert near(picture, CYAN).any() == drawn
    nothing = draw_overlay(np.zeros((200, 300), np.uint8), with_vessel(segmentation(state), empty=True))
    assert not near(nothing, CYAN).any()


def test_the_nerve_lies_over_a_vessel_that_it_touches():
    found = segmentation(State.NERVE, (100, 100), (50, 50), (30, 30))
    vessel = segmentation(State.NERVE, (100, 100), (50, 50), (30, 30))
    both = replace(found, others={"vessel": vessel})
    canvas = np.zeros((100, 100), np.uint8)
    assert np.array_equal(near(draw_overlay(canvas, both), YELLOW), near(draw_overlay(canvas, found), YELLOW))


@pytest.mark.parametrize("eyes", EYES)
def test_colour_blind_eyes_tell_vessels_from_nerves(eyes):
    for nerve in (YELLOW, ORANGE):
        assert difference(CYAN, nerve, eyes) > 60
    # Tissue is mostly dark; the rim around the line is darker still.
    assert contrast(CYAN, (64, 64, 64), eyes) > 4.5
    assert contrast(CYAN, (16, 16, 16), eyes) > 7


def test_samples_of_the_lines_differ_without_colour():
    parts = []
    for line in (*NERVE_LINES.values(), VESSEL_LINE):
        canvas = np.zeros((30, 80, 3), np.uint8)
        draw_line_sample(canvas, Roi(5, 5, 70, 20), line, 3, (0, 0, 0))
        parts.append(cv2.connectedComponents(near(canvas, line.colour, 60).astype(np.uint8))[0] - 1)
        assert not canvas[:, :5].any()
        assert not canvas[:, 75:].any()
    solid, dashed, dotted = parts
    assert solid == 1 < dashed < dotted
