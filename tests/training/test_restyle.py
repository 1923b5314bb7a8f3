"""Restyled images are reproducible, in range, and keep their labels where there is an image."""

import numpy as np
import pytest
import torch

from streamseg.phantom import render_still
from streamseg.training import restyle as restyling
from streamseg.training.restyle import CachedImages, restyle, restyle_batch
from tests.training.runs import noise

STILLS = [render_still(seed, height=64, width=80).image for seed in range(3)]
LABELS = np.ones((2, 64, 80), np.uint8)
CHANGES = [change for _, change in (*restyling._OPTICS, *restyling._SCREEN)]


def test_the_same_seed_gives_the_same_image_and_another_seed_another():
    found = [restyle(STILLS[0], LABELS, seed, STILLS)[0] for seed in range(20)]
    again = [restyle(STILLS[0], LABELS, seed, STILLS)[0] for seed in range(20)]
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
    assert len({image.tobytes() for image in found}) >= 19
    assert {(image.dtype, image.shape) for image in found} == {(np.dtype(np.uint8), (64, 80))}


def test_labels_go_only_where_another_field_of_view_blackens_the_image():
    before = LABELS.copy()
    lost = []
    for seed in range(60):
        _, labels = restyle(STILLS[0], LABELS, seed, STILLS)
        assert set(np.unique(labels)) <= {0, 1}
        assert np.array_equal(labels[0], labels[1])
        lost.append(1 - labels[0].mean())
    assert 0.02 < np.mean(np.array(lost) > 0) < 0.3
    assert max(lost) < 0.9
    assert np.array_equal(LABELS, before)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_each_change_changes_an_image_and_stays_finite(change):
    pixels = (STILLS[1] / np.float32(255)).astype(np.float32)
    before = pixels.copy()
    for seed in range(12):
        found = change(np.random.default_rng(seed), pixels)
        assert (found.dtype, found.shape) == (np.float32, pixels.shape)
        assert np.isfinite(found).all()
        assert abs(found - pixels).max() > 1e-3
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_images_of_one_grey_level_do_not_fail(level):
    flat = np.full((64, 80), level, np.uint8)
    for seed in range(20):
        assert restyle(flat, LABELS, seed, [flat, STILLS[0]])[0].shape == (64, 80)
        assert restyle(STILLS[0], LABELS, seed, [flat])[0].shape == (64, 80)


def test_a_matched_image_has_the_other_s_grey_levels():
    dark, bright = (STILLS[0] // 3).astype(np.uint8), 255 - STILLS[1] // 3
    found = restyling.match_histogram(np.random.default_rng(0), dark, bright) * 255
    assert dark.mean() < found[dark > restyling.BLACK].mean() < bright.mean() + 1


def test_an_image_s_style_depends_neither_on_its_batch_nor_on_its_place():
    images, labels = torch.from_numpy(np.stack(STILLS)[:, None]), torch.from_numpy(np.stack([LABELS] * 3))
    whole = restyle_batch(images, labels, [5, 6, 7], 1.0, STILLS)
    for number, seed in enumerate((5, 6, 7)):
        one = slice(number, number + 1)
        alone = restyle_batch(images[one], labels[one], [seed], 1.0, STILLS)
        assert torch.equal(alone[0][0], whole[0][number])
        assert torch.equal(alone[1][0], whole[1][number])
    assert torch.equal(images, torch.from_numpy(np.stack(STILLS)[:, None]))


def test_a_share_of_the_images_is_restyled():
    images, labels = (
        torch.from_numpy(np.stack([STILLS[0]] * 60)[:, None]),
        torch.zeros(60, 2, 64, 80, dtype=torch.uint8),
    )
    assert restyle_batch(images, labels, range(60), 0.0, STILLS)[0] is images
    changed = restyle_batch(images, labels, range(60), 0.5, STILLS)[0]
    share = np.mean([not torch.equal(a, b) for a, b in zip(changed, images, strict=True)])
    assert 0.3 < share < 0.7


def test_references_are_the_rows_asked_for():
    cache = noise(4)
    found = CachedImages([(cache, (2, 0)), (cache, (3,))])
    assert len(found) == 3
    assert [np.array_equal(image, cache.images[row, 0]) for image, row in zip(found, (2, 0, 3), strict=True)]
    assert np.array_equal(found[-1], cache.images[3, 0])
    assert len(found[1:]) == 2
