"""The report's sentences: status, method, data and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streamseg.evaluation.intervals import resampled_unit
from streamseg.reporting.formatting import counted
from streamseg.reproduction import paper
from streamseg.reproduction.claims import CONTRADICTED, REPLICATES, UNDECIDED, Claim
from streamseg.reproduction.results import Results

NAMED = 12
"""Maximum images named of a group, and maximum groups."""


def status(results: Results) -> str:
    """How much of the replication is done."""
    done, folds = len(results.complete), results.folds
    dates = sorted(run.finished[:10] for run in results.runs.values())
    when = f"; trained {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else "") if dates else ""
    if not results.missing:
        return f"Complete: all {folds} folds{when}."
    missing = ", ".join(f"{paper.TITLES[net]} on fold {fold + 1}" for net, fold in results.missing)
    used = (
        "the figures are those of complete folds only"
        if done
        else "there are no figures before one is complete"
    )
    return f"Not complete: {done} of {folds} folds{when}; {used}. Missing: {missing}."


def verdicts(claims: Sequence[Claim]) -> str:
    """How many of the paper's claims replicate."""
    count = Counter(claim.verdict for claim in claims)
    return (
        f"Of {len(claims)} claims: {REPLICATES} {count[REPLICATES]}, {CONTRADICTED} {count[CONTRADICTED]}, "
        f"{UNDECIDED} by the criterion given {count[UNDECIDED]}."
    )


def setting_words(results: Results) -> list[str]:
    """The settings, in one line per topic."""
    values = results.settings
    optimiser = "Adam" if not values["weight_decay"] else f"AdamW, weight decay {values['weight_decay']:g}"
    loss = {"dice": "Dice loss (equations 4 and 5)", "dice+bce": "Dice loss and binary cross-entropy"}
    seeds = f"{values['seed']} to {values['seed'] + results.folds - 1}"
    return [
        f"Recipe {values['recipe']}, the same for every net: input {values['size']} (height x width), "
        f"{values['epochs']} epochs, {values['batch']} images a step.",
        f"{optimiser}, learning rate {values['rate']:g} ({values['schedule']}); {loss[values['loss']]}, k = "
        f"{values['smoothing']:g} pixel.",
        f"Augmentation of strength {values['strength']:g}, average of weights {values['average']:g}, weight "
        f"of a vessel plane {values['vessel_weight']:g}, arithmetic {values['precision']}; 0 means none.",
        f"{results.folds} folds, each held back once; seeds {seeds}, one for each fold and the same for all "
        "nets. The last epoch's weights are measured: none was chosen by its Dice on held-back images.",
    ]


def machine_words(results: Results) -> list[str]:
    """The machine of the runs; several lines if machines differ."""
    found: dict[str, list[str]] = {}
    for (net, fold), run in results.runs.items():
        m = run.machine
        text = (
            f"{m['name']} ({m['device']}), {m['cores']} cores, {m['threads']} threads, {m['system']}; Python "
            f"{m['python']}, torch {m['torch']}, streamseg {m['streamseg']}"
        )
        found.setdefault(text, []).append(f"{net}-{fold + 1}")
    if len(found) == 1:
        return [*found]
    return [f"{text}: {', '.join(runs)}" for text, runs in found.items()]


def data_words(results: Results) -> list[str]:
    """The facts about the data."""
    data = results.data
    images, nerve = data["images"], data["with_nerve"]
    kind = {"phantom": "synthetic images drawn by streamseg", "folder": "a folder of labelled images"}
    split = (
        f"by subject ({data['subjects']})"
        if data["subjects"]
        else "in contiguous blocks, as subjects are unknown"
    )
    return [
        f"{data['name']}: {kind[data['kind']]}; {images} images, {nerve} with nerve and {images - nerve} "
        "without (at the nets' input size).",
        f"Split {split}; near-identical images are never on both sides.",
        _groups("near-identical images", data["twins"]),
        _groups("near-identical images whose masks contradict one another", data["contradictions"]),
        f"Fingerprint of images and masks at this size: {data['fingerprint'][:16]}.",
    ]


def _groups(what: str, groups: list[list[str]]) -> str:
    if not groups:
        return f"No {what} were found."
    named = "; ".join(" = ".join(group[:NAMED]) for group in groups[:NAMED])
    more = f"; and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
    return f"{what.capitalize()}: {counted(len(groups), 'group')} ({named}{more})."


def _independent(results: Results) -> str:
    if resampled_unit(results.subjects) == "subjects":
        count = len(set(results.subjects))
        return f"Intervals and tests of the Dice are over the {count} subjects, not over their images."
    return (
        "Intervals and tests assume independent images. Those of one person are not, so the intervals "
        "are rather too narrow."
    )


def limits(results: Results) -> list[str]:
    """What to keep in mind about the figures."""
    found = [
        "The paper's Dice is that of the competition's hidden test images, which are not public; ours is "
        "of images held back from this data. The order of the nets can be compared, the values cannot.",
        f"{_independent(results)} They say how far other images would change a mean, not how far other seeds "
        "would: each net is trained once per fold.",
        "The interval is of the mean difference, the Wilcoxon test of the ranks of the differences: they can "
        "disagree, and the verdicts follow the interval.",
        "Folds share most of their training images, so that intervals over folds are rather too narrow too.",
        "Every net gets the same recipe, as in the paper; a net could gain from one of its own.",
        "Times count the steps only, not validation or saving, on the machine named above. Other work on "
        "the machine lengthens them, which the median of the epochs evens out in part.",
    ]
    if len({str(run.machine) for run in results.runs.values()}) > 1:
        found.append(
            "The runs were made on several machines: ratios of times hold within a fold only if it was one."
        )
    return found
