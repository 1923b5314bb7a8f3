import numpy as np
import pytest

from streamseg.core.errors import UsageError
from streamseg.phantom import PhantomVideo
from streamseg.phantom.motion import Motion, wander

SIZE = {"height": 210, "width": 290}


def difference(video, first, second):
    return np.abs(video.frame(first).image.astype(int) - video.frame(second).image).mean()


@pytest.fixture(scope="module")
def steady():
    return PhantomVideo(4, **SIZE, nerve=True)


def test_frames_do_not_depend_on_their_order(steady):
    forward = [steady.frame(index) for index in (0, 7, 31)]
    again = PhantomVideo(4, **SIZE, nerve=True)
    backward = [again.frame(index) for index in (31, 7, 0)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.nerve.tobytes() == other.nerve.tobytes()
        assert one.vessel.tobytes() == other.vessel.tobytes()


def test_truth_is_the_nerve_of_the_frame(steady):
    assert np.array_equal(steady.truth(12), steady.frame(12).nerve)


def test_neighbours_resemble_each_other_more_than_frames_far_apart(steady):
    near = np.mean([difference(steady, i, i + 1) for i in range(0, 60, 10)])
    far = np.mean([difference(steady, i, i + 75) for i in range(0, 60, 10)])
    assert 0 < near < 0.5 * far


@pytest.mark.parametrize("nerve", [None, True])
def test_masks_never_jump(nerve):
    video = PhantomVideo(6, **SIZE, nerve=nerve)
    areas = np.array([video.truth(index).sum() for index in range(120)])
    assert np.abs(np.diff(areas)).max() <= max(40, 0.12 * areas.max())


def test_tissue_and_speckle_move_together(steady):
    # Shifting one frame by the motion of the other makes them more alike: no flicker over still tissue.
    a, b = (steady.frame(i).image[60:180].astype(float) for i in (0, 6))
    costs = {dx: np.abs(a[:, 20:-20] - np.roll(b, dx, axis=1)[:, 20:-20]).mean() for dx in range(-8, 9)}
    assert min(costs.values()) <= costs[0]
    assert min(costs.values()) < 0.8 * np.median(list(costs.values()))


@pytest.mark.parametrize("seed", range(4))
def test_the_nerve_leaves_the_view_and_comes_back(seed):
    video = PhantomVideo(seed, **SIZE)
    shown = [bool(video.truth(index).any()) for index in range(0, 360, 6)]
    first_gone = shown.index(False)
    assert any(shown[:first_gone])
    assert any(shown[first_gone:])


@pytest.mark.parametrize("seed", range(4))
def test_the_nerve_stays_or_is_absent_on_request(seed):
    always, never = (PhantomVideo(seed, **SIZE, nerve=nerve) for nerve in (True, False))
    assert all(always.truth(index).any() for index in range(0, 300, 15))
    assert not any(never.truth(index).any() for index in range(0, 300, 60))


def test_arteries_pulsate_at_the_heart_rate():
    rng = np.random.default_rng(0)
    motion = Motion.random(rng, 0, 0.09, 0)
    wave = np.array([motion.systole(t) for t in np.arange(0, 10, 0.02)])
    assert wave.min() >= 0
    assert wave.max() <= 1
    beats = int(((wave[:-1] < 0.5) & (wave[1:] >= 0.5)).sum())
    assert beats == pytest.approx(10 * motion.heart_hz, abs=1)


def test_an_artery_grows_in_systole():
    for seed in range(20):
        video = PhantomVideo(seed, **SIZE, nerve=True)
        if video.frame(0).vessel.sum() > 800:
            break
    areas = np.array([video.frame(index).vessel.sum() for index in range(40)], float)
    assert areas.max() > 1.02 * areas.min()


def test_the_random_walk_is_smooth_and_has_random_access():
    values = np.array([wander((1, 2), t) for t in np.arange(0, 20, 0.01)])
    assert np.abs(np.diff(values)).max() < 0.1
    assert wander((1, 2), 13.37) == wander((1, 2), 13.37)


def test_spacing_fits_a_nerve_block_depth():
    video = PhantomVideo(0)
    assert 0.08 <= video.spacing_mm[0] <= 0.1
    assert video.spacing_mm[0] == video.spacing_mm[1]


@pytest.mark.parametrize(
    "arguments",
    [{"seed": -1}, {"seed": 0, "height": 10}, {"seed": 0, "width": 10**6}, {"seed": 0, "fps": 0.0}],
)
def test_invalid_videos_are_refused(arguments):
    with pytest.raises(UsageError):
        PhantomVideo(**arguments)


def test_there_is_no_frame_before_the_first(steady):
    with pytest.raises(IndexError, match="-1"):
        steady.frame(-1)
