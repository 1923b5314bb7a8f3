"""The letterbox and its inverse."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.core.geometry import Letterbox, cell_means
from streamseg.core.types import Roi

sizes = st.integers(1, 700)
letterboxes = st.builds(Letterbox, sizes, sizes, st.integers(16, 300), st.integers(16, 300))


@given(letterboxes)
def test_content_lies_inside_touches_two_sides_and_is_centred(box: Letterbox) -> None:
    left, top, width, height = box.content
    assert 0 <= left <= left + width <= box.width
    assert 0 <= top <= top + height <= box.height
    assert width == box.width or height == box.height
    assert 0 <= box.width - width - 2 * left <= 1
    assert 0 <= box.height - height - 2 * top <= 1


@given(letterboxes)
def test_aspect_is_kept_to_half_a_pixel(box: Letterbox) -> None:
    _, _, width, height = box.content
    exact = min(box.height / box.source_height, box.width / box.source_width)
    assert abs(width - max(1, box.source_width * exact)) <= 0.5
    assert abs(height - max(1, box.source_height * exact)) <= 0.5


@given(letterboxes, st.lists(st.tuples(st.floats(-10, 800), st.floats(-10, 800)), min_size=1, max_size=5))
def test_points_survive_the_round_trip(box: Letterbox, points: list[tuple[float, float]]) -> None:
    assert box.to_source(box.to_target(points)) == pytest.approx(np.array(points), abs=1e-8)


@given(letterboxes)
def test_corners_of_the_source_are_corners_of_the_content(box: Letterbox) -> None:
    left, top, width, height = box.content
    corners = [(-0.5, -0.5), (box.source_width - 0.5, box.source_height - 0.5)]
    expected = [(left - 0.5, top - 0.5), (left + width - 0.5, top + height - 0.5)]
    assert box.to_target(corners) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("source", [(100, 120), (624, 1148), (40, 30), (192, 256)])
def test_a_ramp_comes_back_as_it_was(source: tuple[int, int]) -> None:
    height, width = source
    box = Letterbox(height, width, 192, 256)
    y, x = np.mgrid[:height, :width]
    ramp = np.asarray(100 * x / width + 150 * y / height, np.uint8)
    back = box.undo(box.apply(ramp).astype(np.float32))
    assert back.shape == source
    margin = 4
    inside = np.s_[margin:-margin, margin:-margin]
    assert np.abs(back[inside] - ramp[inside]).max() <= 5


def test_a_square_lands_where_to_target_says() -> None:
    box = Letterbox(500, 600, 192, 224)
    image = np.zeros((500, 600), np.uint8)
    image[100:200, 300:420] = 255
    y, x = np.nonzero(box.apply(image) > 127)
    expected = box.to_target([[359.5, 149.5]])[0]
    assert (x.mean(), y.mean()) == pytest.approx(tuple(expected), abs=0.5)


def test_margins_are_black() -> None:
    out = Letterbox(10, 40, 32, 32).apply(np.full((10, 40), 200, np.uint8))
    assert (out.max(1) == 200).sum() == 8
    assert set(np.unique(out)) == {0, 200}


def test_colour_keeps_its_channels() -> None:
    assert Letterbox(10, 40, 32, 32).apply(np.zeros((10, 40, 3), np.uint8)).shape == (32, 32, 3)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="10x40"):
        Letterbox(10, 40, 32, 32).apply(np.zeros((11, 40), np.uint8))


@pytest.mark.parametrize("source", [(582, 729), (96, 61), (100, 700)])
def test_a_part_of_an_enlarged_map_is_that_of_the_whole(source: tuple[int, int]) -> None:
    box = Letterbox(*source, 192, 224)
    probability = np.random.default_rng(3).random((192, 224), np.float32)
    whole = box.undo(probability)
    height, width = source
    for part in Roi(0, 0, width, height), Roi(width - 9, height - 7, 9, 7), Roi(width // 3, 11, 20, 40):
        np.testing.assert_allclose(box.undo_part(probability, part), part.crop(whole), atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_no_pixel_outside_of_the_part_reaches_the_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = Letterbox(int(rng.integers(40, 700)), int(rng.integers(40, 700)), 64, 96)
    probability = cv2.blur(rng.random((64, 96), np.float32), (9, 9))
    level = float(np.quantile(box.crop(probability), 0.995))
    part = box.reached(probability, level)
    reached = box.undo(probability) >= level
    assert reached.any()
    part.crop(reached)[:] = False
    assert not reached.any()


@pytest.mark.parametrize("shape", [(179, 224), (312, 574), (5, 9), (3, 2)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_means_of_cells_are_those_of_resizing_by_area(shape: tuple[int, int], kind: type) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape).astype(kind)
    rows, columns = min(18, shape[0]), min(7, shape[1])
    expected = cv2.resize(values.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(cell_means(values, rows, columns), expected, atol=1e-3)


@pytest.mark.parametrize(
    "source", [(582, 729), (480, 640), (200, 1900), (193, 225), (1080, 1440), (300, 226)]
)
def test_shrinking_is_resizing_by_area(source: tuple[int, int]) -> None:
    box = Letterbox(*source, 192, 224)
    image = np.random.default_rng(1).integers(0, 256, source, np.uint8)
    _, _, width, height = box.content
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    found = box.crop(box.apply(image)).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 1e-3, "they differ only where a sum is next to a half"
    part = np.zeros((source[0] + 9, source[1] + 5), np.uint8)
    part[4:-5, 3:-2] = image
    np.testing.assert_array_equal(box.apply(part[4:-5, 3:-2]), box.apply(image))
