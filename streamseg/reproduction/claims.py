"""The paper's claims, each with the measurement and a verdict by a stated criterion."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from streamseg.reproduction.paper import GAIN_PERCENT, TIME_RATIO, TITLES
from streamseg.reproduction.summary import Interval, NetComparison, ReplicationSummary, TurnFigures

REPLICATES, CONTRADICTED, UNDECIDED = "replicates", "does not replicate", "undecided"
ABOUT = 1.5
"""A ratio is "about 1/5" within this factor: 0.13 to 0.30."""

BEST, SECOND, LAST = "improved_unet", "segnet", "unet"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of the paper."""

    claim: str
    measured: str
    criterion: str
    verdict: str
    """"replicates", "does not replicate" or "undecided"."""


def judge(summary: ReplicationSummary) -> list[Claim]:
    """All claims in the paper's order; undecided if figures are missing."""
    return [
        _higher(summary, LAST),
        _higher(summary, SECOND),
        _order(summary),
        _time(summary),
        _loss(summary),
    ]


def _higher(summary: ReplicationSummary, other: str) -> Claim:
    found = summary.comparisons.get((BEST, other))
    return Claim(
        f"The improved U-Net has a higher Dice than {TITLES[other]} (+{GAIN_PERCENT[other]} %)",
        _none_yet() if found is None else _gain(found, GAIN_PERCENT[other]),
        "The 95 % bootstrap interval of the mean difference over the same images excludes 0; the size of "
        "the gain is not part of the verdict",
        UNDECIDED if found is None else _sign(found.dice),
    )


def _gain(found: NetComparison, paper: int) -> str:
    dice, percent = found.dice, found.gain_percent
    learnt = ""
    if found.dice_learnt is not None:
        learnt = f"; in the folds in which neither collapsed {found.dice_learnt.text('+.3f')}"
    if percent is None or dice.mean == 0 or dice.low is None or dice.high is None:
        return dice.text("+.3f") + learnt
    low, high = (end * percent / dice.mean for end in (dice.low, dice.high))
    within = "lies within" if low <= paper <= high else "lies outside"
    return (
        f"{dice.text('+.3f')}, that is {percent:+.1f} %; the paper's +{paper} % {within} the interval{learnt}"
    )


def _order(summary: ReplicationSummary) -> Claim:
    steps = [summary.comparisons.get(pair) for pair in ((BEST, SECOND), (SECOND, LAST))]
    known = [step for step in steps if step is not None]
    signs = [_sign(step.dice) for step in known]
    if len(known) < 2:
        verdict = UNDECIDED
    elif CONTRADICTED in signs:
        verdict = CONTRADICTED
    else:
        verdict = REPLICATES if signs == [REPLICATES] * 2 else UNDECIDED
    means = sorted(summary.nets.values(), key=lambda net: -net.dice.mean)
    order = ", ".join(f"{TITLES[net.net]} {net.dice.mean:.3f}" for net in means)
    return Claim(
        "Dice: improved U-Net > SegNet > U-Net",
        order if len(known) == 2 else _none_yet(),
        "Both steps (improved over SegNet, SegNet over U-Net): the paired interval is above 0; does not "
        "replicate if one is below",
        verdict,
    )


def _time(summary: ReplicationSummary) -> Claim:
    found = summary.comparisons.get((BEST, SECOND))
    low, high = TIME_RATIO / ABOUT, TIME_RATIO * ABOUT
    verdict, measured = UNDECIDED, _none_yet()
    if found is not None:
        inside = [low <= ratio <= high for ratio in found.time_ratios]
        measured = f"{fmean(found.time_ratios):.3f} ({', '.join(f'{r:.3f}' for r in found.time_ratios)})"
        if len(inside) > 1 and all(inside):
            verdict = REPLICATES
        elif len(inside) > 1 and not any(inside):
            verdict = CONTRADICTED
    turns = summary.turns.get(BEST)
    if found is not None and turns is not None:
        return _time_in_turn(turns, found, low, high)
    return Claim(
        "The improved U-Net trains in about 1/5 of SegNet's time",
        measured,
        f"Ratio of the median times of a step between {low:.3f} and {high:.3f} (1/5 within a factor of "
        f"{ABOUT:g}) in every fold, of two at least; does not replicate if it is outside in every one",
        verdict,
    )


def _time_in_turn(turns: TurnFigures, runs: NetComparison, low: float, high: float) -> Claim:
    if low <= turns.low and turns.high <= high:
        verdict = REPLICATES
    else:
        verdict = CONTRADICTED if turns.high < low or turns.low > high else UNDECIDED
    return Claim(
        "The improved U-Net trains in about 1/5 of SegNet's time",
        f"{turns.ratio:.3f} [{turns.low:.3f}, {turns.high:.3f}] in {turns.rounds} rounds; in the runs, which "
        f"other work on the machine disturbs, {', '.join(f'{ratio:.3f}' for ratio in runs.time_ratios)}",
        f"Ratio of the times of a step, measured in turn: its 10th to 90th percentile lies between {low:.3f} "
        f"and {high:.3f} (1/5 within a factor of {ABOUT:g}); does not replicate if it lies outside",
        verdict,
    )


def _loss(summary: ReplicationSummary) -> Claim:
    rivals = [summary.comparisons.get((BEST, other)) for other in (SECOND, LAST)]
    known = [rival for rival in rivals if rival is not None]
    signs = [_sign(rival.loss) for rival in known]
    if len(known) < 2:
        verdict = UNDECIDED
    elif REPLICATES in signs:  # the improved net's loss is the higher one
        verdict = CONTRADICTED
    else:
        verdict = REPLICATES if signs == [CONTRADICTED] * 2 else UNDECIDED
    at = "Mean loss of the last epoch's steps"
    if summary.unequal:
        at = "Mean loss of an epoch's steps, up to the last that both nets of a fold have reached"
    return Claim(
        "The improved U-Net ends with the lowest training loss",
        _losses(summary, known) if len(known) == 2 else _none_yet(),
        f"{at}: the 95 % t interval of the paired difference over the folds "
        "is below 0 against both other nets; does not replicate if it is above 0 against one",
        verdict,
    )


def _losses(summary: ReplicationSummary, rivals: list[NetComparison]) -> str:
    ends = ", ".join(f"{TITLES[net.net]} {fmean(net.final_loss):.4f}" for net in summary.nets.values())
    if not summary.unequal:
        return ends
    pairs = ", ".join(f"less {TITLES[pair.b]} {pair.loss.text('+.4f')}" for pair in rivals)
    return f"improved U-Net {pairs}; at each net's own end {ends}"


def _sign(difference: Interval) -> str:
    """Whether an interval lies above 0 (replicates) or below (does not)."""
    if difference.above_zero:
        return REPLICATES
    return CONTRADICTED if difference.below_zero else UNDECIDED


def _none_yet() -> str:
    return "no fold is complete, or the net was left out"
