"""Stored results, the figures computed from them, and verdicts on the paper's claims."""

import json
import os

import numpy as np
import pytest
from scipy import stats

from streamseg.core.errors import DataError, UsageError
from streamseg.reproduction.claims import CONTRADICTED, REPLICATES, UNDECIDED, judge
from streamseg.reproduction.plan import PLAN_FILE, run_folder
from streamseg.reproduction.results import RESULT, read_results
from streamseg.reproduction.summary import Interval, ReplicationSummary, summarise, t_interval
from tests.reproduction.stored import DICE, IMAGES, LOSS, STEP_SECONDS, STEPS, plan_of, write_stored


def test_a_run_s_figures(tmp_path):
    run = read_results(write_stored(tmp_path)).runs["segnet", 2]
    assert run.steps_per_epoch == STEPS
    assert run.step_seconds == pytest.approx(5.0)  # the slow first epoch does not count
    assert run.seconds == pytest.approx(5.0 * STEPS * 6)
    assert run.final_loss == pytest.approx(0.3)
    assert len(run.dice) == IMAGES


def test_only_folds_that_all_nets_finished_are_compared(tmp_path):
    results = read_results(write_stored(tmp_path, missing=[("segnet", 2), ("improved_unet", 2), ("unet", 3)]))
    assert results.complete == [0, 1]
    assert results.missing == [("segnet", 2), ("improved_unet", 2), ("unet", 3)]
    assert results.dice("unet").shape == (2 * IMAGES,)


def test_no_report(tmp_path):
    with pytest.raises(UsageError, match="no report"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"epochs": []},
        {"images": []},
        {"losses": []},
        {"unknown": 1},
        {"losses": [10**400] * 30},
        {"losses": ["0.1"] * 30},
        {"losses": [True] * 30},
        {"epochs": [{"loss": 0.1, "dice": 0.2}]},
        {"epochs": [3]},
        {"images": [{"name": "a", "dice": 10**400, "iou": 0.5, "nerve": True, "found": True}]},
        {"images": [{"name": "a", "dice": 0.5}]},
        {"images": {"a": 1}},
        {"machine": "fast"},
        {"parameters": -1},
        {"finished": 3},
    ],
)
def test_a_damaged_run_is_named(tmp_path, change):
    path = run_folder(write_stored(tmp_path), "unet", 0) / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"unet-1.*remove it"):
        read_results(tmp_path)


def test_nets_measured_on_different_images_are_not_compared(tmp_path):
    path = run_folder(write_stored(tmp_path), "segnet", 1) / RESULT
    run = json.loads(path.read_text())
    path.write_text(json.dumps({**run, "images": run["images"][1:]}))
    with pytest.raises(DataError, match="segnet-2 was measured on other images"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"format": Infinity}', '{"format": 1e999}', '{"format": ' + "1" * 5000 + "}", "[]"],
)
@pytest.mark.parametrize("name", [RESULT, PLAN_FILE])
def test_a_hostile_file_is_named(tmp_path, text, name):
    write_stored(tmp_path)
    path = tmp_path / PLAN_FILE if name == PLAN_FILE else run_folder(tmp_path, "unet", 0) / RESULT
    path.write_text(text)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_results(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"folds": 10**9}},
        {"settings": {"folds": 2.5}},
        {"settings": {"nets": ["unet", "other"]}},
        {"settings": {"nets": [["unet"]]}},
        {"settings": {"nets": 3}},
        {"settings": {"rate": "fast"}},
        {"settings": {"seed": 10**400}},
        {"data": {"images": None}},
        {"data": {"twins": 3}},
    ],
)
def test_a_plan_that_cannot_be_is_named(tmp_path, change):
    path = write_stored(tmp_path) / PLAN_FILE
    plan = json.loads(path.read_text())
    ((part, values),) = change.items()
    path.write_text(json.dumps({**plan, part: plan[part] | values}))
    with pytest.raises(DataError, match=r"plan\.json is damaged"):
        read_results(tmp_path)


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / PLAN_FILE).write_text('{"format": 1}')
    with pytest.raises(DataError, match=PLAN_FILE):
        read_results(tmp_path)


def test_figures_of_a_net(tmp_path):
    results = read_results(write_stored(tmp_path))
    found = summarise(results).nets["improved_unet"]
    dice = results.dice("improved_unet")
    assert found.dice.mean == pytest.approx(dice.mean())
    assert found.dice.low < found.dice.mean < found.dice.high
    assert found.dice_median == pytest.approx(np.median(dice))
    assert found.dice_folds == pytest.approx([dice[i : i + 12].mean() for i in range(0, 48, 12)])
    assert found.step_seconds == pytest.approx([1.0] * 4)


def test_pairs_are_compared_both_ways(tmp_path):
    comparisons = summarise(read_results(write_stored(tmp_path))).comparisons
    assert len(comparisons) == 6
    there, back = comparisons["improved_unet", "segnet"], comparisons["segnet", "improved_unet"]
    assert there.dice.mean == pytest.approx(0.075)  # 0.1 on the three quarters with nerve
    assert back.dice.mean == pytest.approx(-0.075)
    assert there.p_value < 0.001
    assert there.time_ratios == pytest.approx([0.2] * 4)
    assert there.gain_percent == pytest.approx(100 * 0.075 / (0.25 + 0.75 * 0.6), abs=0.1)


def test_nothing_without_a_complete_fold(tmp_path):
    summary = summarise(read_results(write_stored(tmp_path, folds=2, missing=[("unet", 0), ("segnet", 1)])))
    assert (summary.nets, summary.comparisons) == ({}, {})


def test_t_interval_is_that_of_scipy():
    values = [0.1, 0.3, -0.05, 0.2]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_value_says_nothing_of_how_it_varies():
    assert t_interval([0.3]) == Interval(0.3, None, None)
    assert Interval.of(0.3, float("nan"), float("nan")).text() == "0.300 [unknown]"
    assert Interval(0.3, 0.1, 0.5).text("+.2f") == "+0.30 [+0.10, +0.50]"
    assert not Interval(0.3, None, None).above_zero
    assert not Interval(-0.3, None, None).below_zero


def verdicts(tmp_path, **changes):
    return [claim.verdict for claim in judge(summarise(read_results(write_stored(tmp_path, **changes))))]


def test_all_replicate(tmp_path):
    assert verdicts(tmp_path) == [REPLICATES] * 5


def test_none_replicates(tmp_path):
    swapped = {"unet": "improved_unet", "improved_unet": "unet", "segnet": "segnet"}
    changes = {
        name: {net: values[swapped[net]] for net in values}
        for name, values in (("dice", DICE), ("loss", LOSS))
    }
    assert verdicts(tmp_path, **changes, seconds={**STEP_SECONDS, "improved_unet": 4.0}) == [CONTRADICTED] * 5


def test_equal_nets_decide_nothing(tmp_path):
    same = dict.fromkeys(DICE, 0.6)
    assert verdicts(tmp_path, dice=same, loss=same)[:3] == [UNDECIDED] * 3
    assert verdicts(tmp_path / "other", dice=same, loss=same)[4] == UNDECIDED


def test_one_step_of_the_order_is_not_the_order(tmp_path):
    found = verdicts(tmp_path, dice={**DICE, "segnet": 0.5})
    assert found[:3] == [REPLICATES, REPLICATES, UNDECIDED]


def test_one_fold_decides_neither_time_nor_loss(tmp_path):
    others = [(net, fold) for net in DICE for fold in (1, 2, 3)]
    assert verdicts(tmp_path, missing=others)[3:] == [UNDECIDED] * 2


def test_losses_are_compared_where_both_nets_have_come(tmp_path):
    """U-Net ends after two of four epochs, SegNet goes on: each is compared with what the other had then."""
    out = write_stored(tmp_path, ended={"unet": 2, "improved_unet": 3})
    results = read_results(out)
    summary = summarise(results)
    assert summary.unequal
    pair = summary.comparisons["improved_unet", "unet"].loss
    steps = 2 * STEPS
    expected = [
        results.runs["improved_unet", fold].loss_at(steps) - results.runs["unet", fold].loss_at(steps)
        for fold in range(4)
    ]
    assert pair.mean == pytest.approx(np.mean(expected))
    claim = judge(summary)[4]
    assert "that both nets of a fold have reached" in claim.criterion
    assert "at each net's own end" in claim.measured


def test_collapsed_runs_are_counted_and_not_dropped(tmp_path):
    results = read_results(write_stored(tmp_path, dice={**DICE, "unet": 0.0}))
    run = results.runs["unet", 1]
    assert (run.empty, run.collapsed) == (1.0, True)
    assert not results.runs["segnet", 1].collapsed
    figures = summarise(results).nets
    assert (figures["unet"].collapsed, figures["segnet"].collapsed) == (4, 0)
    assert figures["unet"].dice.mean == pytest.approx(0.25)  # of the images without nerve


def test_a_gain_over_collapsed_runs_is_not_taken_for_one_over_the_net(tmp_path):
    out = write_stored(tmp_path)
    path = run_folder(out, "unet", 1) / RESULT
    run = json.loads(path.read_text())
    images = [image | {"found": False, "dice": float(not image["nerve"])} for image in run["images"]]
    path.write_text(json.dumps(run | {"images": images}))
    summary = summarise(read_results(out))
    found = summary.comparisons["improved_unet", "unet"]
    assert found.dice_learnt is not None
    assert found.dice_learnt.mean == pytest.approx(0.15)  # of the folds 1, 3 and 4
    assert found.dice.mean > 0.2
    assert "in the folds in which neither collapsed +0.150" in judge(summary)[0].measured
    assert summary.comparisons["improved_unet", "segnet"].dice_learnt is None


def test_nets_beside_the_paper_s_are_compared_with_the_same_net(tmp_path):
    plan = plan_of(4, beside=("improved_unet", "lite_unet"))
    results = read_results(write_stored(tmp_path, plan=plan, missing=[("lite_unet-best", 3)]))
    assert results.complete == [0, 1, 2, 3], "what is beside the paper's nets does not hold them up"
    assert results.missing == [("lite_unet-best", 3)]
    summary = summarise(results)
    assert list(summary.beside) == ["improved_unet-best", "lite_unet-best"]
    assert [(pair.a, pair.b) for pair in summary.beside_comparisons] == [
        ("improved_unet-best", "improved_unet"),
        ("lite_unet-best", "improved_unet"),
    ]
    assert len(summary.beside["lite_unet-best"].dice_folds) == 3
    assert [pair.dice.mean for pair in summary.beside_comparisons] == pytest.approx([0.075] * 2)


def test_undecided_without_figures():
    claims = judge(ReplicationSummary({}, {}))
    assert [claim.verdict for claim in claims] == [UNDECIDED] * 5
    assert all("no fold is complete" in claim.measured for claim in claims)


@pytest.mark.parametrize(
    ("dice", "words"), [({**DICE, "unet": 0.6}, "the paper's +14 % lies"), (DICE, "lies outside")]
)
def test_the_paper_s_gain_is_put_beside_ours(tmp_path, dice, words):
    claims = judge(summarise(read_results(write_stored(tmp_path, dice=dice))))
    assert words in claims[0].measured
