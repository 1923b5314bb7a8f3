"""The report's tables: the paper's four, and those of the claims and settings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from streamseg.reporting.document import Table
from streamseg.reporting.formatting import UNKNOWN
from streamseg.reproduction import paper
from streamseg.reproduction.architecture import Architecture
from streamseg.reproduction.claims import Claim
from streamseg.reproduction.plan import title
from streamseg.reproduction.results import Results
from streamseg.reproduction.summary import LEVEL, ReplicationSummary
from streamseg.reproduction.trials import DICE_TOLERANCE, LOSS_TOLERANCE, PrecisionCheck, rate_trials

SETTING_OF = {
    "input size": "size",
    "batch": "batch",
    "learning rate": "rate",
    "epochs": "epochs",
    "k of the loss": "smoothing",
}
"""The setting that holds the value used, by the open choice's name."""


def table_1(nets: dict[str, Architecture]) -> Table:
    """Stages of the nets, those of one resolution in one row."""
    keys = {(stage.part, stage.scale) for net in nets.values() for stage in net.stages}
    order = {"encoder": 0, "decoder": 1, "head": 2}
    places = sorted(keys, key=lambda key: (order[key[0]], key[1] if key[0] == "encoder" else -key[1]))
    rows = [
        [
            part,
            "1" if scale == 1 else f"1/{scale}",
            *(
                next((s.text for s in net.stages if (s.part, s.scale) == (part, scale)), UNKNOWN)
                for net in nets.values()
            ),
        ]
        for part, scale in places
    ]
    norms = [str(sum(stage.normalisations for stage in net.stages)) for net in nets.values()]
    rows.append(["batch normalisations", "", *norms])
    header = ["stage", "scale", *(paper.TITLES[net] for net in nets)]
    return Table("Table 1. The nets' stages, read off the built nets", header, rows, numbers=False)


def table_2(results: Results, summary: ReplicationSummary) -> Table:
    """Dice of each net; folds that not all nets have finished are in brackets and not part of the means."""
    rows = []
    for net, found in summary.nets.items():
        with_nerve = [i["dice"] for run in results.compared(net) for i in run.images if i["nerve"]]
        rows.append(
            [
                paper.TITLES[net],
                f"{found.dice.mean:.3f}",
                found.dice.text().partition(" ")[2],
                f"{found.dice_median:.3f}",
                f"{fmean(with_nerve):.3f}" if with_nerve else UNKNOWN,
                *(_fold_dice(results, net, fold) for fold in range(results.folds)),
                f"{paper.DICE[net]:.3f}",
            ]
        )
    images = [image for run in results.compared(results.nets[0]) for image in run.images]
    empty = f"{sum(not image['nerve'] for image in images) / len(images):.3f}"
    rows.append(["no net: every mask empty", empty, *[UNKNOWN] * (3 + results.folds), "about 0.51"])
    folds = [f"fold {fold + 1}" for fold in range(results.folds)]
    header = ["net", "mean", f"{100 * LEVEL:.0f} % interval", "median", "with nerve", *folds, "paper"]
    caption = (
        f"Table 2. Dice over {len(images)} held-back images pooled, in their own pixels; "
        f"intervals over {summary.resampled}"
    )
    if any(fold not in results.complete for _, fold in results.runs):
        caption += "; in brackets what is not compared yet"
    return Table(caption, header, rows)


def _fold_dice(results: Results, net: str, fold: int) -> str:
    run = results.runs.get((net, fold))
    if run is None:
        return UNKNOWN
    mean = f"{fmean(run.dice):.3f}"
    return mean if fold in results.complete else f"({mean})"


def table_pairs(results: Results, summary: ReplicationSummary) -> Table:
    """Every two nets compared on the same images, the one with the higher Dice first."""
    rows = []
    for pair in combinations(results.nets, 2):
        a, b = sorted(pair, key=lambda net: -summary.nets[net].dice.mean)
        found = summary.comparisons[a, b]
        gain = UNKNOWN if found.gain_percent is None else f"{found.gain_percent:+.1f} %"
        difference, _, interval = found.dice.text("+.3f").partition(" ")
        name = f"{paper.TITLES[a]} - {paper.TITLES[b]}"
        rows.append([name, difference, interval, gain, _p_value(found.p_value)])
    header = ["nets", "difference", f"{100 * LEVEL:.0f} % interval", "gain", "p (Wilcoxon)"]
    over = f"intervals and tests over {summary.resampled}"
    return Table(f"Dice on the same images: every pair of nets; {over}", header, rows)


def _p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def table_3(nets: dict[str, Architecture]) -> Table:
    """Parameters, counted as the paper counts them."""
    rows = [
        [
            paper.TITLES[name],
            f"{net.parameters:,}",
            f"{paper.PARAMETERS[name]:,}",
            "equal" if net.parameters == paper.PARAMETERS[name] else "differs",
        ]
        for name, net in nets.items()
    ]
    caption = "Table 3. Parameters: trainable ones and BatchNorm's running statistics"
    return Table(caption, ["net", "counted", "paper", ""], rows)


def table_4(results: Results, summary: ReplicationSummary) -> Table:
    """Training time of each net, and its ratio to SegNet's."""
    rows = []
    for net, found in summary.nets.items():
        step = fmean(found.step_seconds)
        ratio = UNKNOWN
        if "segnet" in summary.nets and net != "segnet":
            ratio = f"{fmean(summary.comparisons[net, 'segnet'].time_ratios):.2f}"
        minutes = paper.TRAINING_MINUTES
        rows.append(
            [
                paper.TITLES[net],
                f"{found.seconds / 60:.1f}",
                f"{1000 * step:.1f}",
                f"{results.settings['batch'] / step:.1f}",
                ratio,
                str(minutes[net]),
                UNKNOWN if net == "segnet" else f"{minutes[net] / minutes['segnet']:.2f}",
            ]
        )
    header = [
        "net",
        "minutes",
        "ms per step",
        "images/s",
        "ratio to SegNet",
        "paper, minutes",
        "paper, ratio",
    ]
    caption = f"Table 4. Training time over {len(results.complete)} folds; ms per step is the median"
    return Table(caption, header, rows)


def table_arithmetic(results: Results, summary: ReplicationSummary) -> Table:
    """Table 4 once more: measured time beside the arithmetic of a step, as ratios with their spread."""
    rows = []
    for net, found in summary.nets.items():
        turns = summary.turns.get(net)
        if net == "segnet":
            ratios = []
        elif turns is not None:
            ratios = [turns.low, turns.ratio, turns.high]
        else:
            ratios = _to_segnet(summary, net)
        step = fmean(found.step_seconds) if turns is None else turns.step_seconds
        gflop, other = found.gflop or 0.0, (summary.nets["segnet"].gflop if ratios else None) or 0.0
        rows.append(
            [
                paper.TITLES[net],
                f"{gflop:.1f}",
                f"{1000 * step:.1f}",
                f"{gflop / step:.0f}",
                (f"{fmean(ratios):.3f}" if turns is None else f"{turns.ratio:.3f}") if ratios else UNKNOWN,
                f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else UNKNOWN,
                f"{gflop / other:.3f}" if ratios else UNKNOWN,
                f"{paper.TRAINING_MINUTES[net] / paper.TRAINING_MINUTES['segnet']:.3f}"
                if ratios
                else UNKNOWN,
            ]
        )
    header = [
        "net",
        "GFLOP per step",
        "ms per step",
        "GFLOP/s",
        "time, ratio to SegNet",
        "spread",
        "FLOP, ratio",
        "paper, ratio of minutes",
    ]
    how = "median of each fold; mean and spread of the folds"
    if summary.turns:
        rounds = next(iter(summary.turns.values())).rounds
        how = f"the nets in turn, {rounds} rounds; median, 10th to 90th percentile"
    caption = (
        f"Table 4, as ratios. Time of a step ({how}) and its arithmetic (convolutions, forwards and back)"
    )
    return Table(caption, header, rows)


def _to_segnet(summary: ReplicationSummary, net: str) -> list[float]:
    found = summary.comparisons.get((net, "segnet"))
    return [] if found is None else found.time_ratios


def table_runs(results: Results) -> Table:
    """Every finished run: its length and end, and whether it collapsed."""
    rows = []
    for (name, fold), run in results.runs.items():
        config = results.plan.config_for(name, fold)
        rows.append(
            [
                f"{title(name)}, fold {fold + 1}",
                f"{config.learning_rate if run.rate is None else run.rate:g}",
                str(len(run.epochs)),
                str(len(run.losses)),
                "flat" if len(run.epochs) < config.epochs else "all epochs",
                f"{run.seconds / 60:.1f}",
                f"{run.final_loss:.4f}",
                f"{fmean(run.dice):.3f}",
                f"{100 * run.empty:.1f} %",
                "yes" if run.collapsed else "no",
            ]
        )
    header = [
        "run",
        "rate",
        "epochs",
        "steps",
        "end",
        "minutes",
        "loss",
        "Dice",
        "nerve, but empty mask",
        "collapsed",
    ]
    return Table("The runs", header, rows)


def table_beside(results: Results, summary: ReplicationSummary) -> Table:
    """What the recipe is worth beside the architecture: nets by the recipe ``best`` on the same folds."""
    against = {(pair.a, pair.b): pair for pair in summary.beside_comparisons}
    shown = {**{b: summary.nets[b] for _, b in against if b in summary.nets}, **summary.beside}
    rows = []
    for name, found in shown.items():
        pairs = [pair for (a, _), pair in against.items() if a == name]
        differences = (
            f"{pair.dice.text('+.3f')} (p {_p_value(pair.p_value)}) to {title(pair.b)}" for pair in pairs
        )
        runs = results.compared(name)
        batch = results.plan.config_for(name, 0).batch
        rows.append(
            [
                title(name)
                if name in summary.beside
                else f"{title(name)}, recipe {results.settings['recipe']}",
                f"{runs[0].parameters:,}",
                found.dice.text(),
                f"{found.dice_median:.3f}",
                str(len(found.dice_folds)),
                f"{1000 * fmean(found.step_seconds) / batch:.1f}",
                f"{found.seconds / 60:.1f}",
                "; ".join(differences) or UNKNOWN,
            ]
        )
    header = [
        "net and recipe",
        "parameters",
        f"Dice, mean and {100 * LEVEL:.0f} % interval",
        "median",
        "folds",
        "ms per image",
        "minutes",
        "difference on the same images",
    ]
    caption = "Not in the paper: the recipe beside the architecture, on the same folds at the same input size"
    return Table(caption, header, rows, numbers=False)


def table_trials(results: Results) -> Table:
    """The trials by which the learning rates were chosen, with the collapsed ones."""
    chosen, first = results.chosen, rate_trials(results.plan)
    rows = [
        [
            paper.TITLES[trial.net],
            f"{trial.rate:g}",
            trial.precision,
            str(found.epochs[-1]["step"]),
            f"{found.loss:.4f}",
            f"{found.dice:.3f}",
            f"{1000 * found.step_seconds:.0f}",
            "yes" if chosen is not None and trial in first and chosen.rates[trial.net] == trial.rate else "",
        ]
        for trial, found in results.trials.items()
    ]
    header = [
        "net",
        "rate",
        "arithmetic",
        "steps",
        "loss at the end",
        "held-back Dice",
        "ms per step",
        "chosen",
    ]
    caption = (
        "Trials, the same for every net: the rate with the highest held-back Dice (mean of the second half "
        "of the epochs, at the nets' input size) is taken for all folds"
    )
    return Table(caption, header, rows)


def table_precision(checks: Sequence[PrecisionCheck]) -> Table:
    """bfloat16 against float32, all else equal."""
    rows = [
        [
            paper.TITLES[check.net],
            f"{check.rate:g}",
            f"{check.loss:+.4f}",
            f"{check.dice:+.3f}",
            f"{check.time_ratio:.2f}",
            "yes" if check.agrees else "no",
        ]
        for check in checks
    ]
    header = ["net", "rate", "loss", "held-back Dice", "time of a step", "same"]
    caption = (
        "bfloat16 less float32 (time: ratio); the same if loss and Dice differ by at most "
        f"{LOSS_TOLERANCE:g} and {DICE_TOLERANCE:g}"
    )
    return Table(caption, header, rows)


def table_claims(claims: Sequence[Claim]) -> Table:
    """The paper's claims with their verdicts."""
    rows = [[claim.claim, claim.verdict, claim.measured, claim.criterion] for claim in claims]
    return Table("The paper's claims", ["claim", "verdict", "measured", "criterion"], rows, numbers=False)


def table_open(results: Results) -> Table:
    """What the paper does not state, the value used, and the recipe's choice with its reason."""
    used = {name: str(results.settings.get(key, "as the recipe")) for name, key in SETTING_OF.items()}
    if results.plan.rates:
        used["learning rate"] = "by trials"
    rows = [[name, used.get(name, "as the recipe"), why] for name, why in results.open_choices.items()]
    header = ["left open by the paper", "used here", "the recipe's choice and why"]
    return Table("What the paper does not state", header, rows, numbers=False)
