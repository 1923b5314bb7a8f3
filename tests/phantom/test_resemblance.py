"""The phantom's pictures beside real ones, where these are at hand: levels, and grain along and across."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.phantom import render_still

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "usgra-seg" / "images"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real pictures at {REAL}")


def content(picture):
    """The picture without its black margins, 420 pixels high."""
    seen = picture > 4
    rows, columns = (np.flatnonzero(seen.mean(axis=axis) > 0.25) for axis in (1, 0))
    inner = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 420 / inner.shape[0]
    return cv2.resize(inner, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)


def figures(pictures):
    """Medians over pictures: mean and upper quartile of grey, correlation 2 pixels down and 4 across."""
    rows = []
    for picture in map(content, pictures):
        grain = picture - cv2.GaussianBlur(picture, (0, 0), 8)
        power = (grain**2).mean()
        down, across = (grain[:-2] * grain[2:]).mean(), (grain[:, :-4] * grain[:, 4:]).mean()
        rows.append((picture.mean(), np.percentile(picture, 75), down / power, across / power))
    return np.median(rows, axis=0)


def test_levels_and_grain_are_those_of_real_pictures():
    files = sorted(REAL.glob("*.png"))[::14]
    real = figures([np.array(Image.open(path).convert("L")) for path in files])
    phantom = figures([render_still(seed).image for seed in range(len(files))])
    assert phantom[:2] == pytest.approx(real[:2], rel=0.3)
    assert phantom[2:] == pytest.approx(real[2:], abs=0.15)
