"""Verdicts on the paper's claims."""

import pytest

from streamseg.reproduction.claims import CONTRADICTED, REPLICATES, UNDECIDED, judge
from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import ReplicationSummary, summarise
from tests.reproduction.stored import DICE, LOSS, STEP_SECONDS, write_stored


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
