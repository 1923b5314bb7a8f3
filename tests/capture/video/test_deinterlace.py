"""One field of an interlaced picture, made whole."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.capture.video.deinterlace import deinterlace, deinterlace_sequential


@pytest.mark.parametrize("shape", [(48, 32), (48, 32, 3), (47, 31), (2, 5, 3), (3, 4), (1, 7)])
@pytest.mark.parametrize("odd", [False, True])
def test_the_kept_lines_stay_and_the_others_are_between_them(shape: tuple[int, ...], odd: bool) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    before = image.copy()
    made = deinterlace(image, odd=odd)
    assert np.array_equal(image, before)
    assert (made.shape, made.dtype) == (image.shape, np.uint8)
    first = int(odd and len(image) > 1)
    assert np.array_equal(made[first::2], image[first::2])
    for row in range(1 - first, len(image), 2):
        near = [image[k].astype(float) for k in (row - 1, row + 1) if 0 <= k < len(image)]
        assert np.abs(made[row] - np.mean(near, axis=0)).max() <= 0.5


@pytest.mark.parametrize("odd", [False, True])
def test_a_vertical_ramp_stays_a_ramp(odd: bool) -> None:
    ramp = np.tile(np.arange(0, 200, 2, np.uint8)[:, None], (1, 8))
    assert np.abs(deinterlace(ramp, odd=odd).astype(int) - ramp).max() <= 2
    assert np.array_equal(deinterlace(ramp, odd=odd)[1:-1], ramp[1:-1])


@pytest.mark.parametrize("odd", [False, True])
def test_the_other_field_is_never_seen(odd: bool) -> None:
    image = np.zeros((64, 16, 3), np.uint8)
    image[1::2] = 255
    assert np.all(deinterlace(image, odd=odd) == (255 if odd else 0))


@pytest.mark.parametrize("odd", [False, True])
def test_fields_one_above_the_other(odd: bool) -> None:
    woven = np.random.default_rng(2).integers(0, 256, (40, 9, 3), np.uint8)
    older, newer = woven[int(not odd) :: 2], woven[int(odd) :: 2]
    stacked = np.concatenate([older, newer])
    assert np.array_equal(deinterlace_sequential(stacked, odd=odd), deinterlace(woven, odd=odd))
