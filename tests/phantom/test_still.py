"""Single phantom images: sizes, seeds, masks; levels and grain against real images if available."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.core.errors import UsageError
from streamseg.phantom import render_still

SEEDS = range(30)
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "usgra-seg" / "images"


@pytest.fixture(scope="module")
def stills():
    return [render_still(seed, height=210, width=290) for seed in SEEDS]


def test_the_same_seed_gives_the_same_image():
    first, second = render_still(5), render_still(5)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.nerve.tobytes() == second.nerve.tobytes()
    assert first.vessel.tobytes() == second.vessel.tobytes()


def test_every_seed_gives_another_image(stills):
    assert len({still.image.tobytes() for still in stills}) == len(stills)


def test_sizes_and_types():
    still = render_still(1, height=128, width=200)
    for plane, kind in ((still.image, np.uint8), (still.nerve, np.bool_), (still.vessel, np.bool_)):
        assert plane.shape == (128, 200)
        assert plane.dtype == kind


def test_less_than_half_of_the_seeds_show_a_nerve(stills):
    share = np.mean([still.nerve.any() for still in stills])
    assert 0.25 < share < 0.5


@pytest.mark.parametrize("seed", range(8))
def test_a_nerve_can_be_forced_or_excluded(seed):
    shown = render_still(seed, height=210, width=290, nerve=True).nerve.mean()
    assert 0.0005 < shown < 0.3
    assert not render_still(seed, height=210, width=290, nerve=False).nerve.any()


def test_nerve_and_vessel_never_overlap(stills):
    assert not any((still.nerve & still.vessel).any() for still in stills)


def test_vessels_are_darker_than_what_surrounds_them(stills):
    darker = []
    for still in stills:
        rows = np.flatnonzero(still.vessel.any(axis=1))
        if still.vessel.sum() < 200:
            continue
        band = np.zeros_like(still.vessel)
        band[rows[0] : rows[-1] + 1] = True
        around = still.image[band & ~still.vessel & ~still.nerve]
        darker.append(still.image[still.vessel].mean() < around.mean())
    assert len(darker) > 10
    assert np.mean(darker) > 0.9


def test_levels_are_those_of_an_ultrasound_image(stills):
    means = np.array([still.image.mean() for still in stills])
    assert 35 < means.mean() < 70
    assert means.std() > 5
    bright = np.percentile(np.stack([still.image for still in stills]), 99)
    assert 120 < bright < 230


def test_some_images_have_black_margins_without_content(stills):
    margins = 0
    for still in stills:
        black = (still.image == 0).all(axis=1)
        margins += bool(black[-3:].all())
        assert not still.nerve[black].any()
    assert 2 <= margins <= 15


def test_texture_is_longer_across_than_along_the_beam(stills):
    across, along = [], []
    for still in stills:
        part = still.image[20:].astype(np.float64)
        part -= part.mean()
        along.append((part[:-2] * part[2:]).mean() / part.var())
        across.append((part[:, :-2] * part[:, 2:]).mean() / part.var())
    assert np.mean(across) > np.mean(along) + 0.1


@pytest.mark.parametrize(
    ("seed", "height", "width", "named"),
    [(-1, 420, 580, "-1"), (0, 32, 580, "580x32"), (0, 420, 100_000, "100000x420"), (0, 0, 0, "0x0")],
)
def test_invalid_sizes_and_seeds_are_refused(seed, height, width, named):
    with pytest.raises(UsageError, match=named):
        render_still(seed, height=height, width=width)


def test_representation_holds_no_pixels():
    assert len(repr(render_still(0, height=64, width=64))) < 80


def content(picture):
    """The image without its black margins, scaled to 420 rows."""
    seen = picture > 4
    rows, columns = (np.flatnonzero(seen.mean(axis=axis) > 0.25) for axis in (1, 0))
    inner = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 420 / inner.shape[0]
    return cv2.resize(inner, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)


def figures(pictures):
    """Medians over images: mean and upper quartile of grey, correlation 2 pixels down and 4 across."""
    rows = []
    for picture in map(content, pictures):
        grain = picture - cv2.GaussianBlur(picture, (0, 0), 8)
        power = (grain**2).mean()
        down, across = (grain[:-2] * grain[2:]).mean(), (grain[:, :-4] * grain[:, 4:]).mean()
        rows.append((picture.mean(), np.percentile(picture, 75), down / power, across / power))
    return np.median(rows, axis=0)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real images at {REAL}")
def test_levels_and_grain_are_those_of_real_images():
    files = sorted(REAL.glob("*.png"))[::14]
    real = figures([np.array(Image.open(path).convert("L")) for path in files])
    phantom = figures([render_still(seed).image for seed in range(len(files))])
    assert phantom[:2] == pytest.approx(real[:2], rel=0.3)
    assert phantom[2:] == pytest.approx(real[2:], abs=0.15)
