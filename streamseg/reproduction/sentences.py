"""The report's sentences: status, method, data and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streamseg.evaluation.intervals import resampled_unit
from streamseg.reporting.formatting import counted
from streamseg.reproduction import paper
from streamseg.reproduction.claims import CONTRADICTED, REPLICATES, UNDECIDED, Claim
from streamseg.reproduction.plan import BEST, FULL, title
from streamseg.reproduction.results import Results
from streamseg.reproduction.summary import ReplicationSummary

NAMED = 12
"""Maximum images named of a group, and maximum groups."""
PAIRS = 200
"""Maximum pairs of contradicting images that are named."""


def status(results: Results) -> str:
    """How much of the replication is done."""
    done, folds = len(results.complete), results.folds
    dates = sorted(run.finished[:10] for run in results.runs.values())
    when = f"; trained {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else "") if dates else ""
    if not results.missing:
        return f"Complete: all {folds} folds{when}."
    missing = ", ".join(f"{title(name)} on fold {fold + 1}" for name, fold in results.missing)
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


def quotation(results: Results, summary: ReplicationSummary, claims: Sequence[Claim]) -> str:
    """The replication in one paragraph that can be quoted."""
    data, config, nets = results.data, results.plan.config, summary.nets
    empty = data["images"] - data["with_nerve"]
    count = len({*results.subjects})
    of = f" of {count} subjects" if summary.resampled == "subjects" else ""
    steps = [len(run.losses) for net in nets for run in results.compared(net)]
    scores = ", ".join(f"{paper.TITLES[net]} {found.dice.text()}" for net, found in nets.items())
    parts = [
        f"On {len(results.dice(results.nets[0]))} held-back images{of} of {data['name']} ({empty} without "
        f"nerve), each net trained by the recipe {results.settings['recipe']} at "
        f"{config.height}x{config.width} on {len(results.complete)} of {results.folds} folds for "
        f"{_spread(steps)} steps of {config.batch} images, the mean Dice was: {scores} (95 % intervals over "
        f"{summary.resampled})."
    ]
    for other in ("segnet", "unet"):
        pair = summary.comparisons.get(("improved_unet", other))
        if pair is not None:
            parts.append(
                f"Improved U-Net minus {paper.TITLES[other]}: {pair.dice.text('+.3f')} (p = "
                f"{pair.p_value:.2g})."
            )
    pair = summary.comparisons.get(("improved_unet", "segnet"))
    if pair is not None:
        turns = summary.turns.get("improved_unet")
        ratios = pair.time_ratios if turns is None else [turns.low, turns.high]
        gflop = [nets[net].gflop or 0.0 for net in ("improved_unet", "segnet")]
        parts.append(
            f"A step of the improved U-Net took {_spread(ratios, '.2f')} of SegNet's time, and "
            f"{gflop[0] / gflop[1]:.2f} of its arithmetic."
        )
    parts.append(collapses(results))
    verdict = Counter(claim.verdict for claim in claims)
    parts.append(
        f"Of the paper's {len(claims)} claims {verdict[REPLICATES]} replicate, {verdict[CONTRADICTED]} do "
        f"not, {verdict[UNDECIDED]} are undecided."
    )
    for name, found in summary.beside.items():
        parts.append(f"By the recipe best, {title(name).partition(',')[0]} reached {found.dice.text()}.")
    return " ".join(parts)


def _spread(values: Sequence[float], form: str = "g") -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def collapses(results: Results) -> str:
    """How many runs of each net collapsed to empty masks."""
    counts = []
    for name in (*results.nets, *results.beside):
        runs = results.compared(name)
        counts.append(f"{title(name)} in {sum(run.collapsed for run in runs)} of {len(runs)} runs")
    return f"Collapsed to empty masks, and counted all the same: {', '.join(counts)}."


def differences(results: Results) -> list[str]:
    """What differs from the paper, which is to be read before the verdicts."""
    data, config = results.data, results.plan.config
    empty = data["images"] - data["with_nerve"]
    size = f" of {data['image_size']} pixels" if "image_size" in data else ""
    subjects = f", {data['subjects']} subjects" if data["subjects"] else ""
    found = [
        f"Images: {data['images']}{size}{subjects}; the paper has {paper.IMAGES:,} of {paper.IMAGE_SIZE}, "
        f"{paper.SUBJECTS} subjects. About {data['images'] * (results.folds - 1) // results.folds} train a "
        "net.",
        f"Images without nerve: {empty} of {data['images']}; in the paper more than half. There they count 1 "
        "if nothing is found, so that empty masks alone score about 0.51: values cannot be compared, only "
        "orders.",
        "Measured on: images held back from this data; the paper, on the competition's hidden test images.",
        f"Input size {config.height}x{config.width}, batch {config.batch}, rate and length of the training "
        "are our choice, since the paper states none.",
    ]
    return [results.plan.about, *found] if results.plan.about else found


def trial_words(results: Results) -> list[str]:
    """How rates and arithmetic were chosen."""
    plan, found = results.plan, []
    if not plan.has_trials:
        return []
    if results.trials:
        first = next(iter(results.trials.values()))
        found.append(
            f"Trials: {plan.trial_epochs} epochs on {first.train_images} images of the first fold's training "
            f"part, measured on {first.validation_images} others of it, which the second fold holds back. "
            "Images that the first fold holds back took no part."
        )
    if results.chosen is None:
        return [*found, "The trials are not complete."]
    if plan.rates:
        rates = (f"{paper.TITLES[net]} {rate:g}" for net, rate in results.chosen.rates.items())
        found.append(f"Learning rates chosen: {', '.join(rates)}.")
    if plan.config.precision != FULL:
        same = results.chosen.precision != FULL
        found.append(
            f"Arithmetic of all nets: {results.chosen.precision}, since it changed "
            f"{'nothing in any net' if same else 'the result of a net'} by the tolerance stated."
        )
    return found


def setting_words(results: Results) -> list[str]:
    """The settings, in one line per topic."""
    values = results.settings
    optimiser = "Adam" if not values["weight_decay"] else f"AdamW, weight decay {values['weight_decay']:g}"
    loss = {"dice": "Dice loss (equations 4 and 5)", "dice+bce": "Dice loss and binary cross-entropy"}
    precision = values["precision"] if results.chosen is None else results.chosen.precision
    rate = "of each net by trials" if results.plan.rates else f"{values['rate']:g}"
    seeds = f"{values['seed']} to {values['seed'] + results.folds - 1}"
    return [
        f"Recipe {values['recipe']}, the same for every net: input {values['size']} (height x width), "
        f"{values['epochs']} epochs, {values['batch']} images a step.",
        f"{optimiser}, learning rate {rate} ({values['schedule']}); {loss[values['loss']]}, k = "
        f"{values['smoothing']:g} pixel.",
        f"Augmentation of strength {values['strength']:g}, average of weights {values['average']:g}, weight "
        f"of a vessel plane {values['vessel_weight']:g}, arithmetic {precision}; 0 means none.",
        f"{results.folds} folds, each held back once; seeds {seeds}, one for each fold and the same for all "
        "nets. The last epoch's weights are measured: none was chosen by its Dice on held-back images.",
        *_rule(results),
    ]


def _rule(results: Results) -> list[str]:
    config, plan = results.plan.config, results.plan
    found = []
    if config.patience:
        found.append(
            f"A run ends, by the same rule for every net, when none of its last {config.patience} epochs has "
            f"a held-back Dice at least {config.gain:g} above the best of all earlier epochs, and after "
            f"{config.epochs} epochs at the latest."
        )
    if plan.beside:
        best = plan.config_for(plan.nets[0] + BEST, 0)
        found.append(
            f"By the recipe best: {', '.join(plan.beside)}; {best.epochs} epochs without early end, "
            f"{best.batch} images a step, {best.loss} loss, augmentation of strength {best.strength:g}, "
            f"{100 * best.restyle:.0f} % of the images restyled, average of weights {best.average:g}, "
            f"learning rate up to {best.learning_rate:g} ({best.schedule}), weight decay "
            f"{best.weight_decay:g}; nerve alone; lite_unet's encoder begins with weights of ImageNet, all "
            "else with random ones."
        )
    return found


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
        _groups("near-identical images whose masks contradict one another", data["contradictions"], PAIRS),
        f"Fingerprint of images and masks at this size: {data['fingerprint'][:16]}.",
    ]


def _groups(what: str, groups: list[list[str]], most: int = NAMED) -> str:
    if not groups:
        return f"No {what} were found."
    named = "; ".join(" = ".join(group[:NAMED]) for group in groups[:most])
    more = f"; and {len(groups) - most} more" if len(groups) > most else ""
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
        "disagree, and the verdicts follow the interval. Neither is corrected for the number of comparisons.",
        "Folds share most of their training images, so that intervals over folds are rather too narrow too.",
        "Every net gets the same recipe, as in the paper; a net could gain from one of its own."
        if not results.plan.rates
        else "Every net gets the same recipe but for its learning rate; the images by which that was chosen "
        "are held back in the second fold and train in the others.",
        "Times count the steps only, not validation or saving, on the machine named above. Other work on "
        "the machine lengthens them, which the median of the epochs evens out in part; steps timed in turn, "
        "if the table names rounds, are disturbed alike in all nets.",
    ]
    if results.plan.config.patience:
        found.append(
            "The held-back Dice decides when a run ends, by the same rule for every net; the figures are a "
            "little higher for it than on images that decide nothing."
        )
    if len({str(run.machine) for run in results.runs.values()}) > 1:
        found.append(
            "The runs were made on several machines: ratios of times hold within a fold only if it was one."
        )
    return found
