"""The temporal filter: no flicker, never more than one frame late, no outline without evidence."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamseg.backends import FakeBackend
from streamseg.core.types import Frame, InputSpec, State
from streamseg.phantom import PhantomVideo
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import MAX_GAP_NS, TemporalFilter
from tests.segmentation.test_repetition_detector import grabbed

SHAPE = (48, 64)
STEP = 33_000_000
BLOCKS = hnp.arrays(np.float32, (SHAPE[0] // 8, SHAPE[1] // 8), elements=st.floats(0, 1, width=32))
MAPS = BLOCKS.map(lambda blocks: np.kron(blocks, np.ones((8, 8), np.float32)))
"""Of blocks, because drawing thousands of values takes more time than the filter."""


def speckle(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A textured image with large structures, as tissue has."""
    rng = np.random.default_rng(seed)
    large = cv2.resize(rng.uniform(20, 200, (6, 8)).astype(np.float32), shape[::-1])
    return np.clip(large * rng.uniform(0.7, 1.3, shape), 0, 255).astype(np.uint8)


def live(seed: int, image: np.ndarray) -> np.ndarray:
    """The same tissue in another frame: its speckle has changed a little."""
    noise = np.random.default_rng((seed, 1)).integers(-3, 4, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


def blob(x: int = 32, y: int = 24, peak: float = 1.0) -> np.ndarray:
    answer = np.zeros(SHAPE, np.float32)
    cv2.circle(answer, (x, y), 8, peak, -1)
    return answer


def update(steady: TemporalFilter, one: np.ndarray, content: np.ndarray, at: int, **options) -> np.ndarray:
    """The map to show of a net with one plane."""
    (shown,) = steady.update(one[None], content, at, **options)
    return shown


def play(maps: list[np.ndarray], steady: TemporalFilter | None = None) -> list[np.ndarray]:
    """Maps as shown, of tissue at rest, at 30 frames a second."""
    steady = steady or TemporalFilter()
    return [update(steady, one, live(k, speckle()), k * STEP) for k, one in enumerate(maps)]


@given(st.lists(MAPS, min_size=2, max_size=6))
def test_at_rest_every_level_is_reached_and_left_at_most_one_frame_late(maps: list[np.ndarray]) -> None:
    shown = play(maps)
    for before, now, out in zip(maps, maps[1:], shown[1:], strict=False):
        assert (out <= np.maximum(before, now) + 1e-6).all()
        assert (out >= np.minimum(np.minimum(before, now), 2 * now) - 1e-6).all()


@given(st.lists(MAPS, min_size=2, max_size=6))
def test_every_pixel_shown_has_half_as_much_evidence_in_its_own_frame(maps: list[np.ndarray]) -> None:
    for now, out in zip(maps, play(maps), strict=True):
        assert (out <= 2 * now).all()


def test_a_nerve_is_shown_with_the_second_frame_that_shows_it_and_gone_with_the_first_without() -> None:
    nothing, nerve = np.zeros(SHAPE, np.float32), blob()
    shown = play([nothing] * 5 + [nerve] * 5 + [nothing] * 3)
    areas = [int((one >= 0.5).sum()) for one in shown]
    area = int((nerve >= 0.5).sum())
    assert areas[:6] == [0] * 6
    assert areas[6:10] == [area] * 4
    assert areas[10:] == [0] * 3


def test_a_single_frame_with_a_nerve_is_not_shown_and_one_without_is_bridged_where_it_has_evidence() -> None:
    nothing, nerve = np.zeros(SHAPE, np.float32), blob()
    assert max(float(one.max()) for one in play([nothing] * 3 + [nerve] + [nothing] * 3)) < 0.5
    dip = play([nerve, nerve, blob(peak=0.3), nerve])[2]
    assert np.array_equal(dip >= 0.5, nerve >= 0.5)
    assert play([nerve, nerve, blob(peak=0.2), nerve])[2].max() < 0.5


def test_a_flickering_outline_at_rest_becomes_steady() -> None:
    rng = np.random.default_rng(5)
    base = cv2.GaussianBlur(blob(), (0, 0), 4)
    base *= 0.9 / base.max()
    maps = [np.clip(base + rng.normal(0, 0.15, SHAPE), 0, 1).astype(np.float32) for _ in range(30)]

    def wavering(shown: list[np.ndarray]) -> float:
        masks = [one >= 0.5 for one in shown]
        return float(np.mean([(a ^ b).sum() for a, b in pairwise(masks)]))

    assert wavering(play(maps)) < 0.6 * wavering(maps)


def test_the_history_moves_with_the_image() -> None:
    wide = speckle(3, (48, 128))
    steady = TemporalFilter()
    for k in range(6):
        image = np.ascontiguousarray(wide[:, 4 * k : 4 * k + 64])
        now = blob(x=50 - 4 * k)
        out = update(steady, now, image, k * STEP)
        mask = now >= 0.5
        assert ((out >= 0.5) & mask).sum() / ((out >= 0.5) | mask).sum() > 0.9
    # Without evidence in this frame nothing follows the movement.
    assert update(steady, np.zeros(SHAPE, np.float32), wide[:, 24:88], 6 * STEP).max() == 0


@pytest.mark.parametrize(
    "change",
    ["reset", "pause", "time goes back", "another scene", "black", "another size", "another net"],
)
def test_nothing_of_the_past_remains(change: str) -> None:
    steady = TemporalFilter()
    for k in range(4):
        update(steady, blob(20), live(k, speckle()), k * STEP)
    image, now, time = live(9, speckle()), blob(44), 4 * STEP
    if change == "reset":
        steady.reset()
    elif change == "pause":
        time = 3 * STEP + MAX_GAP_NS + 1
    elif change == "time goes back":
        time = STEP
    elif change == "another scene":
        image = speckle(77)
    elif change == "black":
        image = np.zeros(SHAPE, np.uint8)
    elif change == "another size":
        image = speckle(0, (40, 64))
    else:
        now = np.zeros((64, 64), np.float32)
        now[20:30, 20:30] = 1
    assert np.array_equal(update(steady, now, image, time), now)


def test_arguments_stay_as_they_are_and_padding_too() -> None:
    maps = [np.random.default_rng(k).random((64, 64), np.float32) for k in range(2)]
    kept = [one.copy() for one in maps]
    steady = TemporalFilter()
    update(steady, maps[0], live(0, speckle()), 0)
    out = update(steady, maps[1], live(1, speckle()), STEP)
    assert all(np.array_equal(one, other) for one, other in zip(maps, kept, strict=True))
    assert np.array_equal(out[:8], maps[1][:8])
    assert np.array_equal(out[56:], maps[1][56:])
    assert not np.array_equal(out[8:56], maps[1][8:56])


def test_a_repeated_frame_adds_no_evidence() -> None:
    nothing, nerve, steady = np.zeros(SHAPE, np.float32), blob(), TemporalFilter()
    images = [live(k, speckle()) for k in range(3)]
    seen = []
    for k, (one, image) in enumerate([(nothing, 0), (nerve, 1), (nerve, 1), (nerve, 1), (nerve, 2)]):
        seen.append(update(steady, one, images[image], k * STEP).max() >= 0.5)
        assert steady.filter_state(State.NERVE if k < 2 else State.LOW_CONFIDENCE) == State.NERVE
    assert seen == [False, False, False, False, True]


@pytest.mark.parametrize("fps", [30, 60])
def test_an_image_that_slides_is_no_repetition_however_its_noise_repeats(fps: int) -> None:
    rng = np.random.default_rng(2)
    wide = cv2.GaussianBlur(speckle(3, (192, 700)), (0, 0), 1.2)
    images = []
    for k in range(60):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (192, 256)).astype(np.float32), (0, 0), 1.0)
        view = wide[:, 4 * (k // 2) : 4 * (k // 2) + 256] + 6 * noise
        images.append(np.clip(view + 0.5, 0, 255).astype(np.uint8))
    steady = TemporalFilter()
    for k, image in enumerate(images):
        update(steady, blob(), image, k * 1_000_000_000 // fps)
        assert not (steady._repeated and k % 2 == 0)


@pytest.mark.parametrize("seed", [914, 910, 22])
def test_no_frame_of_a_phantom_is_taken_for_a_repetition_and_all_repetitions_are(seed: int) -> None:
    video, rng = PhantomVideo(seed, height=420, width=580, nerve=True, fps=20.0), np.random.default_rng(0)
    segmenter = Segmenter(
        FakeBackend(InputSpec(192, 256, mean=0, std=1, threshold=0.5)), steady=TemporalFilter()
    )
    repeated = []
    for k in range(60):
        image = video.frame(k // 3).image + rng.normal(0, 2, (420, 580)) + 0.5
        segmenter.segment(Frame(np.clip(image, 0, 255).astype(np.uint8), k, k * 16_666_667))
        assert segmenter.steady is not None
        repeated.append(segmenter.steady._repeated)
    assert repeated[6:] == [bool(k % 3) for k in range(6, 60)]


def test_noise_of_a_grabber_makes_an_outline_switch_no_more_often_than_the_scanner_does() -> None:
    """A net whose answer wavers with every frame: with a repetition, too, because of its noise."""
    rng, images = np.random.default_rng(1), grabbed(300, 3, 2)

    def switches(chosen: list[np.ndarray], interval_ns: int) -> int:
        steady = TemporalFilter()
        peaks = rng.choice([0.35, 0.65], len(chosen))
        shown = [
            bool(update(steady, blob(peak=peak), image, k * interval_ns).max() >= 0.5)
            for k, (image, peak) in enumerate(zip(chosen, peaks, strict=True))
        ]
        return sum(a != b for a, b in pairwise(shown))

    alone, repeated = switches(images[::3], 50_000_000), switches(images, 16_666_667)
    assert repeated <= 1.5 * alone
    assert (
        switches([image for k in range(0, 900, 3) for image in images[k : k + 1] * 3], 16_666_667)
        <= 1.5 * alone
    )


def states(given: list[State]) -> list[State]:
    steady, shown = TemporalFilter(), []
    for k, state in enumerate(given):
        update(steady, blob(), live(k, speckle()), k * STEP)
        shown.append(steady.filter_state(state))
    return shown


@given(st.lists(st.sampled_from([State.NERVE, State.LOW_CONFIDENCE, State.NO_NERVE]), max_size=12))
def test_a_state_is_what_this_frame_or_the_one_before_says(given: list[State]) -> None:
    for k, (one, shown) in enumerate(zip(given, states(given), strict=True)):
        assert shown in {one, given[max(0, k - 1)]}
        assert (shown == State.NO_NERVE) == (one == State.NO_NERVE)


def test_low_confidence_begins_and_ends_with_the_second_frame_in_a_row() -> None:
    n, low = State.NERVE, State.LOW_CONFIDENCE
    assert states([n, n, low, n, low, n]) == [n] * 6
    assert states([n, low, low, n, low, n, n]) == [n, n, low, low, low, low, n]
    assert states([low, State.NO_NERVE, n]) == [low, State.NO_NERVE, n]


def test_unlike_the_training_data_begins_at_once_and_ends_with_the_second_frame() -> None:
    steady, said = TemporalFilter(), []
    for k, unlike in enumerate([False, True, False, True, False, False, False]):
        out = update(steady, blob(20 + 2 * k), live(k, speckle()), k * STEP, unlike=unlike)
        said.append(steady.unlike)
        if k <= 4:  # an unlike frame's map says nothing to those that follow
            assert k == 0 or np.array_equal(out, blob(20 + 2 * k))
    assert said == [False, True, True, True, True, False, False]
    update(steady, blob(), live(8, speckle()), 7 * STEP, unlike=True)
    update(steady, blob(), live(9, speckle()), 7 * STEP + MAX_GAP_NS + 1)
    assert not steady.unlike
