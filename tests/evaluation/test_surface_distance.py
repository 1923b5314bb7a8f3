"""Surface distances against MONAI's and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamseg.evaluation import surface_distance as distances
from streamseg.evaluation.surface_distance import Distances, summarise_distances, surface_distances


def monai_distances(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float]) -> Distances:
    """The same figures by MONAI, which is imported here because that takes its time."""
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, truth)]
    options = {"include_background": True, "spacing": list(spacing)}
    return Distances(
        float(monai.compute_hausdorff_distance(*masks, percentile=95, directed=False, **options)),
        float(monai.compute_average_surface_distance(*masks, symmetric=True, **options)),
    )


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one size with some pixels each: a rectangle, or scattered pixels, or both."""
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    pair = []
    for _ in range(2):
        mask = draw(hnp.arrays(bool, shape, elements=st.booleans(), fill=st.just(False)))
        top, left = (draw(st.integers(0, side - 1)) for side in shape)
        mask[top : top + draw(st.integers(1, 12)), left : left + draw(st.integers(1, 12))] = True
        pair.append(mask)
    return pair[0], pair[1]


@pytest.mark.filterwarnings("ignore")  # of packages that MONAI imports
@settings(max_examples=200, deadline=None)
@given(mask_pairs(), st.sampled_from([(1.0, 1.0), (0.5, 0.5), (0.12, 0.31)]))
def test_distances_are_those_of_monai(pair, spacing):
    found = surface_distances(*pair, spacing)
    expected = monai_distances(*pair, spacing)
    assert found.hd95 == pytest.approx(expected.hd95, rel=1e-5, abs=1e-6)
    assert found.asd == pytest.approx(expected.asd, rel=1e-5, abs=1e-6)


def pixels(*places: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    for place in places:
        mask[place] = True
    return mask


def test_by_hand():
    assert surface_distances(pixels((2, 3)), pixels((5, 7))) == Distances(5, 5)
    assert surface_distances(pixels((2, 3)), pixels((5, 7)), (0.1, 0.2)).hd95 == pytest.approx(0.73**0.5)
    # 0 both ways but for one pixel that lies 10 away: mean of 0, 0, 10; 95 % of the way from 0 to 10.
    assert surface_distances(pixels((0, 0), (0, 10)), pixels((0, 0))) == Distances(
        pytest.approx(9.5), pytest.approx(10 / 3)
    )


def test_the_same_outline_is_no_distance_away_whatever_is_inside():
    mask = np.ones((20, 30), bool)
    ring = mask.copy()
    ring[1:-1, 1:-1] = False
    assert surface_distances(mask, mask.copy()) == Distances(0, 0)
    assert surface_distances(mask, ring) == Distances(0, 0)


def test_an_empty_mask_has_no_outline():
    assert surface_distances(pixels(), pixels((1, 1))) is None
    assert surface_distances(pixels((1, 1)), pixels()) is None
    assert surface_distances(pixels(), pixels()) is None


def test_masks_that_are_all_surface_need_little_memory(monkeypatch):
    board = np.indices((20, 30)).sum(axis=0) % 2 == 0
    whole = surface_distances(board, ~board)
    monkeypatch.setattr(distances, "CHUNK", 64)
    assert surface_distances(board, ~board) == whole == Distances(1, 1)


@pytest.mark.parametrize("spacing", [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_an_invalid_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match="positive"):
        surface_distances(pixels((1, 1)), pixels((1, 1)), spacing)


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        surface_distances(np.ones((2, 2), bool), np.ones((2, 3), bool))


def test_images_without_distances_are_left_out():
    found = summarise_distances([Distances(1, 0.5), None, Distances(3, 1.5), Distances(8, 4)])
    assert (found.images, found.hd95_mean, found.hd95_median) == (3, 4, 3)
    assert (found.asd_mean, found.asd_median) == (2, 1.5)
    assert summarise_distances([None]) is None
