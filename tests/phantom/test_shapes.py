import math

import numpy as np
import pytest

from streamseg.phantom.shapes import Blob, noise, soft, turned_noise, wave


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_distance_of_a_circle_is_exact():
    blob = Blob(50.0, 40.0, 10.0, 10.0)
    window = blob.window((100, 100))
    distance, steep = blob.polar(window)
    rows, columns = np.mgrid[window]
    away = np.hypot(rows - 40, columns - 50)
    # At the very centre there is no ray to measure along.
    assert np.allclose(distance[away > 0], away[away > 0] - 10, atol=1e-2)
    centre_row, centre_column = 40 - window[0].start, 50 - window[1].start
    assert steep[centre_row - 10, centre_column] == pytest.approx(1, abs=1e-3)
    assert steep[centre_row, centre_column + 10] == pytest.approx(0, abs=1e-3)


def test_area_of_a_turned_oval_is_that_of_the_oval():
    blob = Blob(100, 100, 40, 20, angle=0.6)
    distance, _ = blob.polar(blob.window((200, 200)))
    assert (distance < 0).sum() == pytest.approx(math.pi * 40 * 20, rel=0.01)


def test_a_blob_outside_the_canvas_has_no_window(rng):
    assert Blob(-100, 50, 10, 10).window((100, 100)) is None
    assert Blob(50, 400, 10, 10).window((100, 100)) is None


def test_overlap_is_detected():
    assert Blob(0, 0, 10, 5).overlaps(Blob(18, 0, 10, 5))
    assert not Blob(0, 0, 10, 5).overlaps(Blob(0, 12, 10, 5))


def test_noise_has_unit_variance_and_the_requested_length(rng):
    field = noise(rng, (300, 400), across=8, down=2)
    assert field.shape == (300, 400)
    assert field.std() == pytest.approx(1, abs=0.15)
    across = (field[:, :-8] * field[:, 8:]).mean()
    down = (field[:-8] * field[8:]).mean()
    assert across > 0.5
    assert abs(down) < 0.25


def test_turned_noise_follows_its_angle(rng):
    field = turned_noise(rng, (200, 200), along=12, across=1.5, angle=math.pi / 4)
    along = (field[:-6, :-6] * field[6:, 6:]).mean()
    across = (field[6:, :-6] * field[:-6, 6:]).mean()
    assert along > across + 0.2


def test_wave_is_smooth(rng):
    line = wave(rng, np.arange(500, dtype=np.float32), amplitude=3, length=100)
    assert np.abs(np.diff(line)).max() < 1.5


def test_soft_edge_is_one_inside_and_zero_outside():
    assert soft(np.float32([-5, 0, 5])).tolist() == [1, 0.5, 0]
