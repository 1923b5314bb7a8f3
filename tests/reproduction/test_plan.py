"""What a replication runs, and that it stays the same."""

import json

import pytest

from streamseg.core.errors import DataError, UsageError
from streamseg.reproduction.plan import LATER, PLAN_FILE, ReplicationPlan, check_settings, record
from streamseg.training.config import recipe
from tests.reproduction.stored import FACTS, plan_of


def test_all_nets_of_a_fold_before_the_next():
    assert list(plan_of(2).runs()) == [
        *((net, 0) for net in ("unet", "segnet", "improved_unet")),
        *((net, 1) for net in ("unet", "segnet", "improved_unet")),
    ]


def test_nets_share_a_fold_s_seed_and_all_else():
    plan = ReplicationPlan(recipe("paper", seed=7), 3)
    one, other = plan.config_for("unet", 2), plan.config_for("segnet", 2)
    assert (one.net, other.net, one.seed, other.seed) == ("unet", "segnet", 9, 9)
    assert (one.height, one.learning_rate) == (other.height, other.learning_rate)


@pytest.mark.parametrize(
    ("folds", "nets", "message"),
    [
        (1, ("unet",), "2 or more"),
        (4, ("resnet",), "resnet"),
        (4, (), "each once"),
        (4, ("unet", "unet"), "each once"),
    ],
)
def test_impossible_plans_are_refused(folds, nets, message):
    with pytest.raises(UsageError, match=message):
        ReplicationPlan(recipe("paper"), folds, nets)


def test_nets_beside_them_are_trained_by_the_recipe_best():
    plan = plan_of(2, beside=("lite_unet", "improved_unet"), beside_epochs=7)
    assert list(plan.runs())[6:] == [
        (f"{net}-best", fold) for fold in range(2) for net in ("lite_unet", "improved_unet")
    ]
    config = plan.config_for("lite_unet-best", 1)
    assert (config.net, config.recipe, config.epochs, config.seed) == ("lite_unet", "best", 7, 1)
    assert (config.height, config.width, config.outputs) == (32, 64, 1)
    assert plan_of(2, beside=("lite_unet",)).config_for("lite_unet-best", 0).epochs == 4


def test_settings_make_the_plan_again():
    config = recipe("paper", height=32, width=64, precision="bf16-mixed", patience=3, gain=0.01)
    plan = plan_of(3, config, rates=(1e-4, 1e-3), beside=("lite_unet",), about="Some words.")
    again = ReplicationPlan.of(json.loads(json.dumps(plan.settings())))
    assert again.settings() == plan.settings()
    assert again.config_for("unet", 1) == plan.config_for("unet", 1)
    old = {key: value for key, value in plan_of().settings().items() if key not in LATER}
    assert ReplicationPlan.of(old).settings() == plan_of().settings(), "of a version without trials"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 2, "rates": (1e-4, 1e-3)}, "--folds 3"),
        ({"rates": (1e-4, 1e-4)}, "different ones"),
        ({"rates": (0.0,)}, "between 0 and 1"),
        ({"beside": ("resnet",)}, "resnet"),
        ({"beside": ("lite_unet", "lite_unet")}, "each once"),
        ({"trial_epochs": 0}, "0 epochs"),
        ({"beside_epochs": -1}, "-1 epochs"),
    ],
)
def test_impossible_trials_and_nets_beside_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        plan_of(**changes)


def test_settings_are_what_json_gives_back():
    settings = plan_of().settings()
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["size"], settings["rate"], settings["folds"]) == ("32x64", 3e-4, 4)
    assert "net" not in settings


def test_a_new_folder_takes_any_plan_and_then_only_that(tmp_path):
    check_settings(plan_of(), tmp_path, "some data")
    record(plan_of(), tmp_path, FACTS)
    before = (tmp_path / PLAN_FILE).read_bytes()
    check_settings(plan_of(), tmp_path, "some data")
    record(plan_of(), tmp_path, FACTS)
    assert (tmp_path / PLAN_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("plan", "data", "message"),
    [
        (plan_of(3), "some data", r"folds 4 \(now 3\)"),
        (plan_of(nets=("unet",)), "some data", r"nets unet,segnet,improved_unet \(now unet\)"),
        (plan_of(device="cuda"), "some data", r"device cpu \(now cuda\)"),
        (
            ReplicationPlan(recipe("paper", height=32, width=96, epochs=9, batch=2)),
            "some data",
            "size 32x64.*epochs 4",
        ),
        (plan_of(), "others", r"data some data \(now others\)"),
    ],
)
def test_a_changed_setting_is_named(tmp_path, plan, data, message):
    record(plan_of(), tmp_path, FACTS)
    with pytest.raises(UsageError, match=message):
        check_settings(plan, tmp_path, data)


def test_changed_images_of_the_same_name(tmp_path):
    record(plan_of(), tmp_path, FACTS)
    with pytest.raises(UsageError, match=r"other images.*\(48, now 47\)"):
        record(plan_of(), tmp_path, {**FACTS, "fingerprint": "f" * 64, "images": 47})


def test_other_folds_of_the_same_images(tmp_path):
    record(plan_of(), tmp_path, FACTS)
    with pytest.raises(UsageError, match="other folds"):
        record(plan_of(), tmp_path, {**FACTS, "split": "0" * 64})


def test_a_plan_of_another_version(tmp_path):
    (tmp_path / PLAN_FILE).write_text('{"format": 0}')
    with pytest.raises(UsageError, match="another version"):
        check_settings(plan_of(), tmp_path, "some data")


@pytest.mark.parametrize("text", ["{", '{"format": 1}', '{"format": 1, "settings": 3, "data": {}}'])
def test_a_damaged_plan_is_named(tmp_path, text):
    (tmp_path / PLAN_FILE).write_text(text)
    with pytest.raises(DataError, match=PLAN_FILE):
        check_settings(plan_of(), tmp_path, "some data")
