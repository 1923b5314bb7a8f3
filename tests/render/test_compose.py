from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pytest

from streamseg.core.latency import Percentiles
from streamseg.core.types import Roi, State
from streamseg.render import compose, compose_plain
from streamseg.render.overlay import CYAN, ORANGE, YELLOW
from streamseg.render.replay_panel import BACKGROUND, DISCLAIMER, draw_panel
from tests.render.examples import near, result, with_vessel

STAGES = {
    name: Percentiles(9, 1.0, 2.0, 3.0, 4.0) for name in ("decode", "preprocess", "infer", "postprocess")
}


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (2, 900),
        (900, 2),
        (128, 128),
        (33, 57, 3),
        (512, 534),
        (624, 1148, 3),
        (1080, 1920),
        (50, 4000),
    ],
)
def test_every_size_gives_an_even_frame_of_constant_size(shape):
    pictures = [
        compose(result(shape, state, pts=pts), stages=stages, fps=fps, full_frame=False)
        for state, stages, fps, pts in (
            (State.NERVE, STAGES, 29.97, 1e6),
            (State.NO_NERVE, {}, None, None),
            (
                State.LOW_CONFIDENCE,
                {f"stage {n}": Percentiles(0, *[np.nan] * 4) for n in range(9)},
                1e7,
                -0.5,
            ),
            (State.UNLIKE_TRAINING, STAGES, 30.0, 0.0),
        )
    ]
    assert len({picture.shape for picture in pictures}) == 1
    height, width, channels = pictures[0].shape
    assert (height % 2, width % 2, channels) == (0, 0, 3)
    assert height >= min(480, shape[0] * 1920 / shape[1])
    assert all(picture.dtype == np.uint8 for picture in pictures)


@pytest.mark.parametrize("shape", [(4096, 4096), (2160, 4700), (9000, 1100), (9000, 9000)])
def test_large_regions_are_reduced_to_what_players_show(shape):
    """A frame of 17 megapixels took 600 MB in x264, an image of 88 more than a gigabyte."""
    picture = compose(result(shape, State.NERVE), stages=STAGES, fps=30.0, full_frame=False)
    height, width = picture.shape[:2]
    limit = 11_200_000 if shape[0] * shape[1] <= 12_000_000 else 3_733_333
    assert 0.95 * limit < height * width <= limit
    assert (height % 2, width % 2) == (0, 0)


@pytest.mark.parametrize("shape", [(600, 700), (600, 1200)])
def test_the_image_is_never_covered(shape):
    subject = result(shape, State.NO_NERVE)
    picture = compose(subject, stages=STAGES, fps=30.0, full_frame=False)
    assert np.array_equal(picture[:600, : shape[1], 0], subject.frame.image)
    beside = shape[1] == 700
    assert (picture.shape[0] == 600) is beside
    assert (picture.shape[1] == shape[1]) is not beside


def test_only_the_region_is_shown_unless_the_whole_frame_is_requested():
    image = np.full((700, 900), 255, np.uint8)
    roi = Roi(100, 80, 640, 560)
    roi.crop(image)[:] = 40
    subject = result(roi=roi, image=image, state=State.NO_NERVE)
    region = compose(subject, stages={}, fps=None, full_frame=False)
    assert np.all(region[:560, :640] == 40)
    assert np.all(compose_plain(subject, full_frame=False) == 40)
    whole = compose(subject, stages={}, fps=None, full_frame=True)
    assert np.all(whole[:80, :900] == 255)
    assert compose_plain(subject, full_frame=True).shape == (700, 900, 3)


def test_outline_moves_with_the_region():
    image = np.zeros((700, 900), np.uint8)
    whole = compose_plain(result(image=image), full_frame=True)
    cut = compose_plain(result(image=image, roi=Roi(150, 100, 600, 500)), full_frame=False)
    ys, xs = np.nonzero(whole.any(axis=-1))
    ys_cut, xs_cut = np.nonzero(cut.any(axis=-1))
    assert (ys_cut.mean() + 100, xs_cut.mean() + 150) == pytest.approx((ys.mean(), xs.mean()), abs=0.5)


def test_a_plain_frame_keeps_its_size_made_even():
    subject = result((201, 301), State.NO_NERVE)
    picture = compose_plain(subject, full_frame=False)
    assert picture.shape == (202, 302, 3)
    assert np.array_equal(picture[:201, :301, 2], subject.frame.image)
    assert not picture[201:].any()


def test_the_input_frame_is_not_modified():
    subject = result((600, 700, 3))
    before = subject.frame.image.copy()
    compose(subject, stages=STAGES, fps=1.0, full_frame=True)
    compose_plain(subject, full_frame=True)
    assert np.array_equal(subject.frame.image, before)


def panel(subject, beside, **changes):
    canvas = np.empty((1080, 620, 3) if beside else (220, 1200, 3), np.uint8)
    draw_panel(canvas, subject, beside=beside, **{"stages": STAGES, "fps": 25.0, **changes})
    return canvas


@pytest.mark.parametrize("beside", [True, False])
def test_every_figure_reaches_the_panel(beside):
    base = panel(result(), beside)
    assert np.mean(np.all(base == BACKGROUND, axis=-1)) > 0.3
    changed = [
        panel(result(), beside, fps=26.0),
        panel(result(), beside, stages={**STAGES, "infer": Percentiles(9, 1.0, 2.0, 9.0, 4.0)}),
        panel(result(index=4), beside),
        panel(result(pts=1.5), beside),
        panel(result(state=State.NO_NERVE), beside),
        panel(result(state=State.LOW_CONFIDENCE), beside),
        panel(result(state=State.UNLIKE_TRAINING), beside),
    ]
    for picture in changed:
        assert not np.array_equal(picture, base)


def vessel_result(state=State.NERVE, *, empty=False, spacing_mm=(0.1, 0.1)):
    """A result of an engine that outlines vessels too."""
    subject = result(state=state)
    return replace(
        subject,
        frame=replace(subject.frame, spacing_mm=spacing_mm),
        segmentation=with_vessel(subject.segmentation, empty=empty, spacing_mm=spacing_mm),
    )


@pytest.mark.parametrize("beside", [True, False])
def test_figures_of_vessels_reach_the_panel_with_samples_of_the_lines(beside):
    subject = vessel_result()
    drawn = panel(subject, beside)
    assert near(drawn, CYAN).any()
    assert near(panel(vessel_result(State.LOW_CONFIDENCE), beside)[-800:], ORANGE).any()
    others = [
        panel(subject, beside, vessels=False),
        panel(result(), beside),
        panel(vessel_result(empty=True), beside),
        panel(vessel_result(spacing_mm=None), beside),
        panel(vessel_result(spacing_mm=(0.1, 0.101)), beside),
    ]
    for one, other in combinations([drawn, *others], 2):
        same = one is others[0] and other is others[1]
        assert np.array_equal(one, other) == same
    assert not near(others[0], CYAN).any()


def test_vessels_are_drawn_unless_they_are_switched_off():
    subject = vessel_result()
    arguments = {"stages": STAGES, "fps": 1.0, "full_frame": False}
    for draw in (partial(compose, subject, **arguments), partial(compose_plain, subject, full_frame=False)):
        assert near(draw(), CYAN).any()
        hidden = draw(vessels=False)
        assert not near(hidden, CYAN).any()
        assert near(hidden, YELLOW).any()
    assert compose(subject, **arguments).shape == compose(result(), **arguments).shape


def test_states_differ_without_colour_and_words_are_large():
    greys = [panel(result(state=state), True)[32:254, 32:588].mean(axis=-1) for state in State]
    assert len(greys) == 10
    for one, other in combinations(range(len(greys)), 2):
        assert np.mean(np.abs(greys[one] - greys[other]) > 30) > 0.05


def test_the_disclaimer_is_shown():
    assert DISCLAIMER == "Research software - not a medical device"
    for beside in (True, False):
        bottom = panel(result(), beside)[-45 if beside else -38 :]
        assert np.mean(np.any(bottom != BACKGROUND, axis=-1)) > 0.02
