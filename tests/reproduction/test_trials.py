"""Short runs that choose each net's rate and show whether bfloat16 changes anything."""

import json

import pytest

from streamseg.core.errors import DataError
from streamseg.datasets.split import Fold
from streamseg.reproduction.plan import Trial, trial_folder
from streamseg.reproduction.trials import (
    RESULT,
    choose,
    missing_trials,
    precision_checks,
    rate_trials,
    read_trials,
    trial_fold,
)
from streamseg.training.config import recipe
from tests.reproduction.stored import plan_of, write_trial

RATES = (1e-4, 1e-3)
PLAN = plan_of(3, nets=("unet", "segnet"), rates=RATES)
BF16 = plan_of(
    3,
    nets=("unet", "segnet"),
    rates=RATES,
    config=recipe("paper", height=32, width=64, precision="bf16-mixed"),
)


def test_images_that_the_first_fold_holds_back_take_no_part():
    folds = (Fold((2, 3, 4, 5), (0, 1)), Fold((0, 1, 4, 5), (2, 3)), Fold((0, 1, 2, 3), (4, 5)))
    assert trial_fold(folds) == Fold((4, 5), (2, 3))


def test_all_nets_try_the_same_rates():
    assert [(trial.net, trial.rate) for trial in rate_trials(PLAN)] == [
        *(("unet", rate) for rate in RATES),
        *(("segnet", rate) for rate in RATES),
    ]
    assert rate_trials(plan_of(3)) == []
    assert choose(plan_of(3), {}) == plan_of(3).default


def test_each_net_gets_the_rate_of_its_highest_dice(tmp_path):
    dice = {("unet", 1e-4): 0.3, ("unet", 1e-3): 0.0, ("segnet", 1e-4): 0.3, ("segnet", 1e-3): 0.4}
    for trial in rate_trials(PLAN):
        write_trial(tmp_path, trial, dice=dice[trial.net, trial.rate])
    found = read_trials(tmp_path, PLAN)
    assert not list(missing_trials(PLAN, found))
    chosen = choose(PLAN, found)
    assert chosen is not None
    assert chosen.rates == {"unet": 1e-4, "segnet": 1e-3}
    assert chosen.precision == "32-true"
    config = PLAN.config_for("segnet", 1, chosen)
    assert (config.net, config.learning_rate, config.seed) == ("segnet", 1e-3, 1)


def test_nets_that_collapse_at_every_rate_get_the_lowest(tmp_path):
    for trial in rate_trials(PLAN):
        write_trial(tmp_path, trial, dice=0.0)
    chosen = choose(PLAN, read_trials(tmp_path, PLAN))
    assert chosen is not None
    assert chosen.rates == {"unet": 1e-4, "segnet": 1e-4}


@pytest.mark.parametrize(("loss", "precision"), [(0.61, "bf16-mixed"), (0.63, "32-true")])
def test_bfloat16_is_left_out_if_it_changes_one_net(tmp_path, loss, precision):
    for trial in rate_trials(BF16):
        write_trial(tmp_path, trial, seconds=0.6)
    found = read_trials(tmp_path, BF16)
    assert choose(BF16, found) is None, "the trials in float32 are missing"
    float32 = list(missing_trials(BF16, found))
    assert float32 == [Trial(net, 1e-4, "32-true") for net in ("unet", "segnet")]
    for trial in float32:
        write_trial(tmp_path, trial, loss=loss if trial.net == "segnet" else 0.6)
    found = read_trials(tmp_path, BF16)
    chosen = choose(BF16, found)
    assert chosen is not None
    assert chosen.precision == precision
    checks = precision_checks(BF16, found)
    assert [check.agrees for check in checks] == [True, precision != "32-true"]
    assert checks[0].time_ratio == pytest.approx(0.6)


@pytest.mark.parametrize(
    "change",
    [{"format": 0}, {"epochs": []}, {"epochs": [{"loss": 1}]}, {"rate": 0.5}, {"more": 1}, {"machine": 3}],
)
def test_a_damaged_trial_is_named(tmp_path, change):
    trial = rate_trials(PLAN)[0]
    write_trial(tmp_path, trial)
    path = trial_folder(tmp_path, trial) / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"unet-0\.0001-32-true.*remove its folder"):
        read_trials(tmp_path, PLAN)
