"""Near-identical images are found, similar ones are not, and contradicting masks are named."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.datasets import open_dataset
from streamseg.datasets.near_duplicates import HEIGHT, WIDTH, find_near_duplicates, reduced
from streamseg.phantom import PhantomVideo

SHARED = Path(__file__).parents[2] / "../shared/data/usgra-seg"
EMPTY = np.zeros((HEIGHT, WIDTH), np.uint8)


def at_cache_size(image):
    return reduced(image, np.zeros(image.shape, bool))[0]


@pytest.fixture(scope="module")
def frames():
    """One frame each of six people."""
    return [PhantomVideo(seed, height=252, width=348, fps=30).frame(400).image for seed in range(6)]


def square(top=40, left=50, side=30):
    mask = EMPTY.copy()
    mask[top : top + side, left : left + side] = 1
    return mask


def twins(images, masks=None):
    small = np.array([at_cache_size(image) for image in images])
    return find_near_duplicates(small, np.array([EMPTY] * len(images) if masks is None else masks))


def noisy(image):
    noise = np.random.default_rng(1).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def cut_out(image):
    """A part of the image, as somebody else's screenshot would have it: other margins, another scale."""
    return image[4:-10, 12:-3]


def brighter(image):
    return cv2.convertScaleAbs(image, alpha=1.2, beta=6)


def test_images_of_different_people_are_not_near_duplicates(frames):
    assert twins(frames).groups == ()


def test_the_next_frame_is_a_twin(frames):
    video = PhantomVideo(7, height=252, width=348, fps=30)
    found = twins([video.frame(300).image, *frames, video.frame(301).image])
    assert found.groups == ((0, 7),)


@pytest.mark.parametrize("change", [np.copy, noisy, cut_out, brighter])
def test_one_image_saved_again_is_a_twin(frames, change):
    found = twins([*frames, change(frames[3]), change(frames[5])])
    assert found.groups == ((3, 6), (5, 7))
    assert found.contradictions == ()


def test_groups_join_over_common_members(frames):
    found = twins([frames[0], noisy(frames[0]), frames[1], brighter(frames[0]), frames[1]])
    assert found.groups == ((0, 1, 3), (2, 4))


@pytest.mark.parametrize("change", [np.copy, cut_out])
@pytest.mark.parametrize(
    ("first", "second", "contradict"),
    [
        (EMPTY, EMPTY, False),
        (EMPTY, square(), True),
        (square(), EMPTY, True),
        (square(), square(left=58), False),
        (square(), square(left=75), True),
        (square(side=60), square(side=20), True),
    ],
)
def test_contradicting_masks_are_named(frames, change, first, second, contradict):
    found = twins([frames[0], frames[4], change(frames[0])], [first, square(80), second])
    assert found.groups == ((0, 2),)
    assert found.contradictions == (((0, 2),) if contradict else ())


SHIFT = 16


@pytest.mark.parametrize("left", [40, 2])
def test_masks_of_an_image_cut_out_anew_are_compared_where_both_show(frames, left):
    """Small masks that a shift leaves apart are no contradiction, nor is one that it leaves outside."""
    nerve = np.zeros(frames[0].shape, np.uint8)
    nerve[100:120, left : left + 10] = 255
    shown = [frames[0], frames[0][:, SHIFT:]]
    masks = [reduced(mask, mask > 0)[1] for mask in (nerve, nerve[:, SHIFT:])]
    assert 2 * (masks[0] & masks[1]).sum() < 0.5 * (masks[0].sum() + masks[1].sum())
    for order in (1, -1):
        found = twins(shown[::order], masks[::order])
        assert (found.groups, found.contradictions) == (((0, 1),), ())


def test_images_without_detail_are_nobodys_near_duplicates(frames):
    flat = [np.full((252, 348), level, np.uint8) for level in (0, 0, 255, 255, 90, 90)]
    assert twins([*flat, frames[0]]).groups == ()


@pytest.mark.parametrize("count", [0, 1])
def test_few_images(count):
    found = find_near_duplicates(
        np.zeros((count, HEIGHT, WIDTH), np.uint8), np.zeros((count, HEIGHT, WIDTH), bool)
    )
    assert (found.groups, found.contradictions) == ((), ())


def test_a_still_video_is_one_group(frames):
    images = np.array([at_cache_size(frames[0])] * 700)
    masks = np.array([EMPTY] * 699 + [square()])
    found = find_near_duplicates(images, masks)
    assert found.groups == (tuple(range(700)),)
    assert 16 <= len(found.contradictions) < 700
    assert all(second == 699 for _, second in found.contradictions)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/usgra-seg is not here")
def test_the_real_sets_double_is_found_and_neighbours_are_not():
    """0043 and 0077 are one image; 0014 and 0083, too, cut out anew; 0073 and 0060 are of one volunteer."""
    data = open_dataset(SHARED)
    names = [entry.name for entry in data.entries]
    chosen = ("0012", "0014", "0043", "0055", "0060", "0073", "0077", "0083", "0113", "0127", "0131", "0145")
    samples = [data[names.index(name)] for name in chosen]
    images, masks = zip(*(reduced(sample.image, sample.nerve) for sample in samples), strict=True)
    found = find_near_duplicates(np.array(images), np.array(masks))
    assert [tuple(chosen[row] for row in group) for group in found.groups] == [
        ("0012", "0073"),
        ("0014", "0083"),
        ("0043", "0077"),
    ]
    assert found.contradictions == ()
