import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from streamseg.core.errors import UsageError
from streamseg.core.types import Roi, State
from streamseg.core.view import Figures, without_expired_outline
from streamseg.render.live import LivePainter, LiveStyle, compose_live
from streamseg.render.live.layout import Layout
from streamseg.render.overlay import CYAN, ORANGE, YELLOW
from streamseg.render.replay_panel import BACKGROUND
from streamseg.render.symbols import HELD, STATE_WORDS, state_colours
from tests.render.examples import FOUND, near, structure, view, with_vessel

SIZES = [(1920, 1080), (1280, 720), (800, 600), (1080, 1920), (320, 240)]
REGIONS = [(582, 729), (384, 512), (400, 1600), (900, 300)]


def image_of(picture, size, shape):
    """The part of a painted display that shows the image."""
    return Layout.fit(size, (shape[1], shape[0])).image.crop(picture)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", REGIONS)
def test_every_state_fits_every_size(size, shape):
    painter = LivePainter()
    for state in State:
        picture = painter.paint(view(state, "no frame for 0.8 s; next try in 2 s", shape=shape), size)
        assert picture.shape == (size[1], size[0], 3)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("size", [None, *SIZES])
@pytest.mark.parametrize("shape", REGIONS)
def test_nothing_overlaps_the_image(size, shape):
    extent = shape[1], shape[0]
    layout = Layout.natural(extent) if size is None else Layout.fit(size, extent)
    places = {"banner": layout.banner, "image": layout.image, "panel": layout.panel, "footer": layout.footer}
    for one, other in combinations(places, 2):
        a, b = places[one], places[other]
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, (one, other, layout)
    for place in places.values():
        place.check_inside(layout.height, layout.width)
    assert layout.image.width / layout.image.height == pytest.approx(shape[1] / shape[0], rel=0.02)


def test_a_view_is_drawn_into_a_canvas_of_the_right_size_and_covers_what_was_there():
    painter, canvas = LivePainter(), np.full((720, 1280, 3), 99, np.uint8)
    for subject in (view(State.LAGGING, "late"), view(shape=(400, 1600)), view(State.SOURCE_LOST, "gone")):
        picture = painter.paint(subject, (1280, 720), canvas=canvas)
        assert picture is canvas
        np.testing.assert_array_equal(picture, compose_live(subject, (1280, 720)))
    assert painter.paint(view(), (800, 600), canvas=canvas).shape == (600, 800, 3)


@pytest.mark.parametrize("state", [State.NO_NERVE, State.LAGGING, State.FROZEN, State.SOURCE_LOST])
def test_the_image_is_the_frame_and_nothing_else(state):
    subject = view(state, "why", shape=(800, 900))
    picture = compose_live(subject)
    shown = Layout.natural((900, 800)).image.crop(picture)[..., 1].astype(float)
    original = subject.frame.image.astype(float)
    bright = {State.SOURCE_LOST: 0.5, State.FROZEN: 0.85}.get(state, 1.0)
    assert np.abs(shown - bright * original).max() <= 1


def test_natural_size_depends_on_the_region_only_and_is_even():
    for shape in [*REGIONS, (1, 1), (33, 57), (2, 900), (900, 2)]:
        subjects = [view(state, "a reason " * 5, shape=shape, spacing_mm=None) for state in State]
        painter = LivePainter()
        shapes = {painter.paint(subject).shape for subject in (*subjects, view(shape=shape))}
        assert len(shapes) == 1
        height, width, _ = shapes.pop()
        assert (height % 2, width % 2) == (0, 0)


def test_only_the_region_is_shown_and_nothing_without_one():
    image = np.full((700, 900), 255, np.uint8)
    roi = Roi(100, 80, 640, 560)
    roi.crop(image)[:] = 40
    subject = view(State.NO_NERVE, image=image, roi=roi)
    assert np.all(Layout.natural((640, 560)).image.crop(compose_live(subject)) == 40)
    whole = compose_live(subject, None, LiveStyle(full_frame=True))
    assert np.mean(whole == 255) > 0.2
    for blind in (
        replace(subject, segmentation=None, roi=None),
        replace(subject, segmentation=None, frame=None, roi=None),
    ):
        body = compose_live(blind, (1280, 720), LiveStyle(full_frame=True))[130:680, :700]
        assert np.all(body == BACKGROUND)


def test_the_outline_is_there_until_it_expires_and_never_after():
    subject = view(expires_in_ms=100)
    painter = LivePainter()
    for size in SIZES[:3]:
        before = painter.paint(subject, size, now_ns=subject.expires_ns - 1)
        after = painter.paint(subject, size, now_ns=subject.expires_ns)
        assert near(image_of(before, size, (420, 580)), YELLOW).sum() > 100
        assert not near(after, YELLOW).any()
        assert near(after, state_colours(State.LAGGING)[0]).sum() > 1000


@pytest.mark.parametrize("state", State)
def test_an_expired_view_claims_nothing(state):
    subject = view(state, "why")
    assert without_expired_outline(subject, subject.at_ns) is subject
    later = without_expired_outline(subject, time.monotonic_ns() + 10**12)
    assert later.segmentation is None
    assert later.state is (State.LAGGING if state in FOUND else state)
    assert bool(later.reason)


def test_uncertain_outlines_are_dashed_and_orange():
    size = (1280, 720)
    picture = image_of(compose_live(view(State.LOW_CONFIDENCE), size), size, (420, 580))
    assert near(picture, ORANGE).any()
    assert not near(picture, YELLOW).any()


def test_an_outline_that_is_switched_off_is_not_drawn_and_the_display_says_so():
    size = (1280, 720)
    subject = view()
    on, off = (compose_live(subject, size, LiveStyle(overlay=overlay)) for overlay in (True, False))
    assert not near(image_of(off, size, (420, 580)), YELLOW).any()
    assert not np.array_equal(on[:86, 400:], off[:86, 400:])


def vessel_view(state=State.NERVE, *, spacing_mm=(0.07, 0.07), empty=False, **kinds):
    """A view of an engine that outlines vessels too."""
    subject = view(state, spacing_mm=spacing_mm, **kinds)
    found = with_vessel(subject.segmentation, empty=empty, spacing_mm=spacing_mm)
    return replace(subject, segmentation=found)


@pytest.mark.parametrize("size", [(1280, 720), (700, 1000)])
def test_vessels_have_an_outline_figures_and_samples_of_the_lines(size):
    layout = Layout.fit(size, (580, 420))
    subject = vessel_view()
    drawn = compose_live(subject, size)
    assert near(layout.image.crop(drawn), CYAN).any()
    panel = layout.panel.crop(drawn)
    assert near(panel, CYAN).any()
    assert near(panel, YELLOW).any()
    unsure = layout.panel.crop(compose_live(vessel_view(State.LOW_CONFIDENCE), size))
    assert near(unsure, ORANGE).any()
    assert not near(unsure, YELLOW).any()
    alone = compose_live(view(), size)
    assert not near(alone, CYAN).any()
    assert not near(layout.panel.crop(alone), YELLOW).any(), "one outline needs no legend"


def test_vessels_that_are_switched_off_are_not_drawn_and_the_display_says_so():
    size = (1280, 720)
    layout = Layout.fit(size, (580, 420))
    subject = vessel_view()
    on, off = (compose_live(subject, size, LiveStyle(vessels=vessels)) for vessels in (True, False))
    assert not near(off, CYAN).any()
    assert near(layout.image.crop(off), YELLOW).any()
    # Also without a vessel in the image, "off" differs from "-".
    nothing = vessel_view(empty=True)
    empty, hidden = (compose_live(nothing, size, LiveStyle(vessels=vessels)) for vessels in (True, False))
    assert not np.array_equal(layout.panel.crop(empty), layout.panel.crop(hidden))
    assert not np.array_equal(layout.panel.crop(empty), layout.panel.crop(on))


@pytest.mark.parametrize("state", [State.NERVE, State.NO_NERVE])
def test_a_vessel_leaves_with_the_nerve_of_its_frame(state):
    subject = vessel_view(state)
    painter = LivePainter()
    expires_ns = subject.expires_ns
    before = painter.paint(subject, (1280, 720), now_ns=expires_ns - 1)
    after = painter.paint(subject, (1280, 720), now_ns=expires_ns)
    image = Layout.fit((1280, 720), (580, 420)).image
    assert near(image.crop(before), CYAN).any()
    assert not near(image.crop(after), CYAN).any()


def test_the_figures_of_vessels_stay_in_place_between_outlines():
    size = (1280, 720)
    painter, panel = LivePainter(), Layout.fit(size, (580, 420)).panel
    first = panel.crop(painter.paint(vessel_view(), size))
    between = panel.crop(painter.paint(view(State.LAGGING, "late"), size))
    assert near(between, CYAN).any()
    samples = near(first, CYAN)
    assert np.array_equal(near(between, CYAN), samples)
    assert not near(panel.crop(painter.paint(view(), size)), CYAN).any()


@pytest.mark.parametrize("shape", [(420, 580), (400, 1600)])
def test_the_distance_and_the_vessel_area_reach_the_display(shape):
    size = (1280, 720)
    base = vessel_view(shape=shape)
    vessel = base.segmentation.others["vessel"]
    nearer = structure(shape, (shape[1] * 3 // 4, shape[0] // 2), (shape[1] // 12,) * 2)
    changed = {
        "distance": replace(nearer, area_mm2=vessel.area_mm2),
        "area": replace(vessel, area_mm2=12.5),
        "none": structure(shape, axes=None),
    }
    layout = Layout.fit(size, shape[::-1])
    panels = {
        name: layout.panel.crop(
            compose_live(
                replace(base, segmentation=replace(base.segmentation, others={"vessel": other})), size
            )
        )
        for name, other in changed.items()
    }
    panels["as it was"] = layout.panel.crop(compose_live(base, size))
    panels["unknown"] = layout.panel.crop(compose_live(vessel_view(shape=shape, spacing_mm=None), size))
    for one, other in combinations(panels, 2):
        assert not np.array_equal(panels[one], panels[other]), (one, other)


def test_outlines_that_are_switched_off_are_missed_also_without_a_nerve():
    banner = slice(0, 90)
    shown, off = (
        compose_live(vessel_view(State.NO_NERVE), (1280, 720), LiveStyle(overlay=overlay))
        for overlay in (True, False)
    )
    assert not near(off, CYAN).any()
    assert not np.array_equal(shown[banner], off[banner])
    nothing = compose_live(view(State.NO_NERVE), (1280, 720), LiveStyle(overlay=False))
    assert np.array_equal(nothing[banner], shown[banner])


def test_the_tint_follows_the_opacity():
    size = (1280, 720)
    middle = [compose_live(view(), size, LiveStyle(opacity=opacity)) for opacity in (0.0, 0.5, 1.0)]
    inside = [image_of(picture, size, (420, 580))[-300:-200, 300:380].mean() for picture in middle]
    assert inside[0] < inside[1] < inside[2]
    with pytest.raises(UsageError, match="opacity"):
        LiveStyle(opacity=1.5)


@pytest.mark.parametrize(
    ("state", "held"), [(State.SOURCE_LOST, None), (State.FROZEN, None), (State.NERVE, 12)]
)
def test_frames_that_are_not_live_have_a_hatched_band(state, held):
    size = (1280, 720)
    sign = HELD if held else state
    picture = compose_live(view(state, "why"), size, LiveStyle(held_s=held))
    layout = Layout.fit(size, (580, 420))
    place, wide = layout.image, layout.frame
    above = picture[place.y - wide : place.y, place.x : place.x + place.width]
    assert 0.3 < near(above, state_colours(sign)[0]).mean() < 0.7
    live = compose_live(view(), size)
    assert np.all(live[place.y - wide : place.y, place.x : place.x + place.width] == BACKGROUND)


def test_states_differ_without_colour():
    size = (1920, 1080)
    signs = [compose_live(view(state), size)[:124].mean(axis=-1) for state in State]
    signs.append(compose_live(view(), size, LiveStyle(held_s=3))[:124].mean(axis=-1))
    assert len(signs) == len(STATE_WORDS)
    for one, other in combinations(signs, 2):
        assert np.mean(np.abs(one - other) > 30) > 0.02


def test_the_state_is_legible_from_two_metres():
    """Capitals of 70 pixels and more at 1080p, whatever the state; figures of 32 and more."""
    for state in State:
        banner = compose_live(view(state), (1920, 1080))[:124]
        background, ink = state_colours(state)
        letters = near(banner[:, 160:], ink, 60).any(axis=1)
        assert near(banner, background).any()
        assert letters.sum() >= 70, state
    layout = Layout.fit((1920, 1080), (580, 420))
    age = compose_live(view(age_ms=48), (1920, 1080))[layout.panel.y + 40 : layout.panel.y + 110]
    assert near(age[:, layout.panel.x :], (245, 245, 245), 40).any(axis=1).sum() >= 32


@pytest.mark.parametrize("shape", [(582, 729), (400, 1600)])
def test_every_figure_reaches_the_display(shape):
    size = (1280, 720)
    base = view(State.NO_NERVE, shape=shape)
    figures = base.figures
    changed = {
        "age": replace(base, at_ns=base.at_ns + 10**8),
        "area": replace(base, segmentation=view(shape=shape).segmentation),
        "depth": replace(base, frame=view(shape=shape, spacing_mm=(0.1, 0.1)).frame),
        "unknown": replace(base, frame=view(shape=shape, spacing_mm=None).frame),
        "reason": replace(base, reason="something else"),
        **{
            name: replace(base, figures=replace(figures, **{name: value}))
            for name, value in {
                "offered": 1,
                "processed": 1,
                "dropped": 1,
                "reconnects": 1,
                "offered_fps": 1.0,
                "processed_fps": None,
                "age": figures.stages["infer"],
                "stages": {"infer": figures.stages["infer"]},
                "recording": "recording 0:12",
                "clock": "driver",
            }.items()
        },
    }
    pictures = {name: compose_live(subject, size) for name, subject in changed.items()}
    reference = compose_live(base, size)
    for name, picture in pictures.items():
        assert not np.array_equal(picture, reference), name
    stopped = compose_live(
        replace(base, figures=replace(figures, recording="recording stopped: disk full")), size
    )
    assert not near(stopped, (60, 60, 255)).any()
    assert near(pictures["recording"], (60, 60, 255)).any()


def test_figures_of_the_run_are_drawn_at_most_four_times_a_second_and_those_of_the_frame_at_once():
    painter = LivePainter()
    first = view(State.NO_NERVE)
    layout = Layout.fit((1280, 720), (580, 420))
    start = painter.paint(first, (1280, 720))

    def later(milliseconds, **changes):
        at_ns = first.at_ns + milliseconds * 1_000_000
        subject = replace(first, at_ns=at_ns, figures=replace(first.figures, **changes))
        return layout.panel.crop(painter.paint(subject, (1280, 720)))

    def table(panel):
        return panel[panel.shape[0] // 2 :]

    soon = later(200, dropped=456)
    assert not np.array_equal(soon, layout.panel.crop(start)), "the age"
    assert np.array_equal(table(soon), table(layout.panel.crop(start)))
    assert not np.array_equal(table(later(251, dropped=457)), table(soon))
    quick = later(252, dropped=458, recording="recording 0:00")
    assert near(quick, (60, 60, 255)).any()


def test_a_notice_replaces_the_keys():
    size = (1280, 720)
    painter = LivePainter()
    keys, notice = LiveStyle(keys="q quit"), LiveStyle(keys="q quit", notice="saved snapshot.png")
    subject = view()
    before, during, after = (painter.paint(subject, size, style) for style in (keys, notice, keys))
    assert np.array_equal(before, after)
    assert np.array_equal(before[:-40], during[:-40])
    assert not np.array_equal(before[-29:], during[-29:])


def test_the_ruler_has_a_tick_every_millimetre_of_the_right_length():
    subject = view(State.NO_NERVE, shape=(800, 900), spacing_mm=(0.1, 0.2))
    layout = Layout.natural((900, 800))
    edge = layout.image.x - layout.frame - 2
    column = compose_live(subject)[layout.image.y : layout.image.y + 800, edge]
    ticks = np.flatnonzero(np.diff(np.any(column != BACKGROUND, axis=-1).astype(int)) == 1) + 1
    assert np.all(np.diff(ticks) == 10)
    assert len(ticks) >= 79
    bare = compose_live(view(State.NO_NERVE, shape=(800, 900), spacing_mm=None))
    assert np.all(bare[layout.image.y : layout.image.y + 800, : layout.image.x - layout.frame] == BACKGROUND)


def test_invalid_values_are_drawn_as_dashes():
    odd = Figures(
        offered_fps=float("nan"), processed_fps=float("inf"), recording="recording stopped: " + "x" * 300
    )
    for spacing in ((0.0, 0.0), (float("nan"), 1.0), (1e-9, 1e-9), (1e9, 1e9)):
        subject = view(
            State.LOW_CONFIDENCE, "long reason " * 40, spacing_mm=spacing, figures=odd, age_ms=10**9
        )
        compose_live(subject, (1280, 720), LiveStyle(keys="k" * 500, notice="n" * 500))
