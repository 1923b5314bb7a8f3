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
from streamseg.reproduction.results import Results
from streamseg.reproduction.summary import LEVEL, ReplicationSummary

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
        p_value = f"{found.p_value:.3f}" if found.p_value >= 0.001 else f"{found.p_value:.1e}"
        rows.append([name, difference, interval, gain, p_value])
    header = ["nets", "difference", f"{100 * LEVEL:.0f} % interval", "gain", "p (Wilcoxon)"]
    over = f"intervals and tests over {summary.resampled}"
    return Table(f"Dice on the same images: every pair of nets; {over}", header, rows)


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


def table_claims(claims: Sequence[Claim]) -> Table:
    """The paper's claims with their verdicts."""
    rows = [[claim.claim, claim.verdict, claim.measured, claim.criterion] for claim in claims]
    return Table("The paper's claims", ["claim", "verdict", "measured", "criterion"], rows, numbers=False)


def table_open(results: Results) -> Table:
    """What the paper does not state, the value used, and the recipe's choice with its reason."""
    rows = [
        [name, str(results.settings.get(SETTING_OF.get(name, ""), "as the recipe")), why]
        for name, why in results.open_choices.items()
    ]
    header = ["left open by the paper", "used here", "the recipe's choice and why"]
    return Table("What the paper does not state", header, rows, numbers=False)
