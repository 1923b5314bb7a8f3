"""No net is judged on phantoms that it was fitted on, whatever seed a user gives."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.benchmark.nets.accuracy import labelled_images
from streamseg.core.errors import UsageError
from streamseg.datasets.phantoms import phantom_samples
from streamseg.export.recipe import phantom_recipe
from streamseg.phantom import seeds
from streamseg.phantom.seeds import FIXED, SeedRange, is_reserved
from streamseg.training import trainer
from streamseg.training.run_folder import TrainingCallbacks
from streamseg.training.trainer import TrainingJob
from tests.training.runs import CONFIG

RUN_SEEDS = st.integers(-(2**63), 2**63 - 1) | st.integers(-100, 200)


def overlap(one: SeedRange, other: SeedRange) -> bool:
    return one.first < other.first + other.count and other.first < one.first + one.count


def test_the_fixed_ranges_are_disjoint() -> None:
    assert not [pair for pair in combinations(FIXED, 2) if overlap(*pair)]


@given(RUN_SEEDS, RUN_SEEDS)
def test_training_meets_no_other_purpose_and_no_other_run(one: int, other: int) -> None:
    found = seeds.training(one)
    assert found.first >= 0
    assert not [purpose for purpose in FIXED if overlap(found, purpose)]
    assert one == other or not overlap(found, seeds.training(other))


def test_old_runs_keep_their_phantoms() -> None:
    assert [seeds.training(seed).first for seed in (0, 1, 48)] == [1_000_000, 2_000_000, 49_000_000]


@pytest.mark.parametrize("seed", [-1, 0, 48, 49, 59, 69, 79, 10**6])
def test_a_run_draws_from_its_own_range(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs 49, 59 and 79 met validation, the judgement and data sets; run -1 the calibration of INT8."""
    drawn: list[int] = []

    def noted(count: int, seed: int):  # type: ignore[no-untyped-def]
        drawn.extend(range(seed, seed + count))
        return phantom_samples(2, 1)

    monkeypatch.setattr(trainer, "phantom_samples", noted)
    job = TrainingJob(replace(CONFIG, seed=seed), "phantom:4", tmp_path, phantom=300, validation=0.5)
    trainer._read_data(job, trainer.make_fabric("cpu"), TrainingCallbacks().say, None)
    assert len(drawn) == 300
    assert not [number for number in drawn if is_reserved(number)]


def test_every_purpose_takes_from_its_range() -> None:
    recipe = phantom_recipe("unet")
    assert recipe.calibration.phantom_seed in seeds.CALIBRATION
    assert recipe.validation.phantom_seed in seeds.VALIDATION
    (sample,) = labelled_images(1).samples
    assert int(sample.name.removeprefix("phantom-")) in seeds.BENCHMARK


def test_more_than_a_range_holds_is_refused() -> None:
    assert seeds.training(3).take(1_000_000) == 4_000_000
    with pytest.raises(UsageError, match="give at most 1000000"):
        seeds.training(3).take(1_000_001)
