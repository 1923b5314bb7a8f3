"""The net's input: units, padding, and what a prepared frame holds."""

import cv2
import numpy as np
import pytest

from streamseg.core.latency import StageClock
from streamseg.core.types import Frame, InputSpec, Roi
from streamseg.segmentation.preprocess import (
    letterbox_for,
    letterboxed,
    normalise,
    prepare,
    to_grey,
    to_tensor,
    unpadded,
)

SPEC = InputSpec(48, 64, mean=0.25, std=0.5, threshold=0.5)


def test_grey_levels_become_the_nets_units():
    grey = np.array([[0, 255]], np.uint8)
    np.testing.assert_allclose(normalise(grey, SPEC), [[-0.5, 1.5]], atol=1e-6)


@pytest.mark.parametrize("shape", [(100, 80), (30, 300), (48, 64), (20, 20)])
def test_the_tensor_has_the_nets_shape_and_black_padding(shape):
    tensor = to_tensor(np.full(shape, 255, np.uint8), SPEC)
    assert tensor.shape == (1, 1, 48, 64)
    assert tensor.dtype == np.float32
    left, top, width, height = letterbox_for(np.zeros(shape, np.uint8), SPEC).content
    inside = np.zeros((48, 64), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_allclose(tensor[0, 0][inside], 1.5, atol=1e-5)
    np.testing.assert_allclose(tensor[0, 0][~inside], -0.5, atol=1e-6)


def test_colour_and_grey_of_one_image_give_one_tensor():
    grey = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    assert to_grey(grey) is grey
    np.testing.assert_array_equal(to_tensor(colour, SPEC), to_tensor(grey, SPEC))


def test_a_view_into_a_frame_is_taken_as_it_is():
    frame = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    crop = frame[10:70, 20:100]
    np.testing.assert_array_equal(to_tensor(crop, SPEC), to_tensor(crop.copy(), SPEC))


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_prepared_frame_holds_its_region_as_it_enters_the_net(channels):
    image = np.random.default_rng(2).integers(0, 256, (90, 120, *channels), dtype=np.uint8)
    frame, roi, clock = Frame(image, 7, 0), Roi(20, 10, 80, 30), StageClock()
    prepared = prepare(frame, roi, SPEC, clock)
    crop = image[10:40, 20:100]
    np.testing.assert_array_equal(prepared.grey, letterboxed(crop, SPEC))
    np.testing.assert_array_equal(prepared.content, unpadded(crop, SPEC))
    np.testing.assert_array_equal(prepared.tensor, to_tensor(crop, SPEC))
    assert prepared.content.shape == (24, 64)
    assert list(clock.stage_ns) == ["preprocess"]
    assert repr(prepared).startswith("Prepared(Frame(index=7")
