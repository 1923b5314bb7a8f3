"""Intervals and paired tests against scipy's, by hand, and for few values."""

import math

import numpy as np
import pytest
from scipy import stats

from streamseg.evaluation import intervals as statistics
from streamseg.evaluation.intervals import bootstrap_interval, paired_test, resampled_unit


def dice_like(count: int, seed: int) -> np.ndarray:
    """Skewed, with some zeros and ones, as Dice of images is."""
    values = np.random.default_rng(seed).beta(4, 1.5, count)
    values[: count // 8], values[-(count // 8) :] = 0, 1
    return values


@pytest.mark.parametrize("count", [8, 41, 200])
def test_the_interval_is_that_of_scipy(count):
    values = dice_like(count, seed=count)
    low, high = bootstrap_interval(values)
    expected = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=10_000, rng=1)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.04 * width)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.beta(4, 1.5, 40), level=0.9, resamples=400, seed=seed)
        covered += low <= 4 / 5.5 <= high
    assert 165 <= covered <= 195


def subjects_with_images(generator, count):
    """Values of ``count`` subjects, up to 30 images each, whose mean is 0: subjects differ, images hardly."""
    sizes = generator.integers(10, 30, count)
    names = [f"s{subject}" for subject, size in enumerate(sizes) for _ in range(size)]
    values = np.repeat(generator.normal(0, 0.2, count), sizes) + generator.normal(0, 0.1, sizes.sum())
    return values, names


@pytest.mark.parametrize("count", [6, 12, 40])
def test_intervals_and_tests_hold_for_subjects_with_many_images(count):
    """Over images, an interval of 95 % covered the mean in a third of the runs; six tests of ten rejected."""
    generator = np.random.default_rng(count)
    covered, rejected = {"subjects": 0, "images": 0}, {"subjects": 0, "images": 0}
    for seed in range(150):
        values, names = subjects_with_images(generator, count)
        for unit, given in (("subjects", names), ("images", None)):
            low, high = bootstrap_interval(values, resamples=300, seed=seed, subjects=given)
            covered[unit] += low <= 0 <= high
            test = paired_test(values, np.zeros_like(values), resamples=100, subjects=given)
            rejected[unit] += test.p_value < 0.05
            assert resampled_unit(given) == unit
            assert f"{unit if given else 'pairs'} unequal" in test.test
    assert covered["subjects"] >= 0.88 * 150
    assert rejected["subjects"] <= 0.1 * 150
    assert covered["images"] < 0.6 * 150
    assert rejected["images"] > 0.4 * 150


def test_one_image_of_each_subject_is_nearly_the_interval_over_images():
    values = dice_like(60, seed=1)
    plain = bootstrap_interval(values)
    by_subject = bootstrap_interval(values, subjects=[str(n) for n in range(60)])
    assert by_subject == pytest.approx(plain, abs=0.1 * (plain[1] - plain[0]))
    assert by_subject != plain
    assert bootstrap_interval(values, subjects=[None, *map(str, range(59))]) == plain
    assert all(map(math.isnan, bootstrap_interval(values, subjects=["one"] * 60)))
    with pytest.raises(ValueError, match="2 subjects do not name those of 60 values"):
        bootstrap_interval(values, subjects=["a", "b"])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_very_few_subjects_have_a_wide_interval(count):
    values = [0.1 * subject + 0.01 * image + 0.3 for subject in range(count) for image in range(5)]
    names = [str(subject) for subject in range(count) for _ in range(5)]
    low, high = bootstrap_interval(values, subjects=names)
    assert low == pytest.approx(0.32, abs=0.01)  # the subjects' range: resampling cannot leave it
    assert high == pytest.approx(0.32 + 0.1 * (count - 1), abs=0.02)


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 9, 46])
@pytest.mark.parametrize("t", [0.0, 0.5, 2.3, 12.0])
def test_student_s_tail_is_scipy_s(degrees, t):
    assert statistics._student_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9, abs=1e-15)


def test_the_same_seed_gives_the_same_interval():
    values = dice_like(30, seed=0)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(list(values), seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_drawing_in_parts_changes_nothing(monkeypatch):
    values = dice_like(30, seed=0)
    whole = bootstrap_interval(values, resamples=500)
    monkeypatch.setattr(statistics, "CHUNK", 100)
    assert bootstrap_interval(values, resamples=500) == whole


def test_bootstrap_intervals_of_few_values():
    assert bootstrap_interval([0.7, 0.7, 0.7]) == (0.7, 0.7)
    assert all(map(math.isnan, bootstrap_interval([0.7])))
    low, high = bootstrap_interval([0.0, 1.0])
    assert 0 <= low < high <= 1


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "no values"),
        ([0.5, float("nan")], {}, "1 of 2 values"),
        ([0.5, 0.6], {"level": 1.0}, "level 1.0"),
        ([0.5, 0.6], {"resamples": 5}, "resamples 5"),
    ],
)
def test_values_without_an_interval_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)


def test_a_paired_test_is_scipys():
    a, b = dice_like(40, seed=1), dice_like(40, seed=2)
    found = paired_test(a, b)
    kept = (a - b)[a != b]
    assert found.p_value == pytest.approx(stats.wilcoxon(kept).pvalue)
    assert found.difference == pytest.approx(np.mean(a - b))
    assert found.low < found.difference < found.high
    assert found.test == f"Wilcoxon signed-rank, two-sided, {kept.size} of 40 pairs unequal"


def test_six_better_of_six_is_two_in_sixty_four():
    found = paired_test([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.0] * 6)
    assert found.p_value == pytest.approx(2 / 2**6)
    assert paired_test([0.0] * 6, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]).difference == -found.difference


def test_equal_methods_do_not_differ():
    found = paired_test([0.5, 1.0, 0.0], [0.5, 1.0, 0.0])
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.test.endswith("0 of 3 pairs unequal")


def test_one_pair_proves_nothing():
    found = paired_test([0.9], [0.2])
    assert found.p_value == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_values_that_make_no_pairs_are_refused():
    with pytest.raises(ValueError, match="3 and 2 values"):
        paired_test([0.1, 0.2, 0.3], [0.1, 0.2])
