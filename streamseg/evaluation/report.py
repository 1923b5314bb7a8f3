"""The page that ``streamseg evaluate --report`` writes: an evaluation's figures and charts, and images.

It is one HTML file that loads nothing. With pictures it shows images of the user's data, and so is for this
machine only; without them it names neither images nor subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes

from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Frame, Mask
from streamseg.datasets.reader import Sample
from streamseg.evaluation.area_agreement import percent_difference
from streamseg.evaluation.dataset import Evaluation, ImageFigures
from streamseg.evaluation.intervals import Interval
from streamseg.evaluation.risk_coverage import curve
from streamseg.render.contact_sheet import outlined
from streamseg.reporting.charts import ALARM, DARK, GREY, LIGHT, blank, style, svg
from streamseg.reporting.document import Block, Bullets, Heading, Paragraph, Picture, Table, to_html
from streamseg.reporting.formatting import UNKNOWN, counted, figure, percent
from streamseg.segmentation.segmenter import Segmenter

SHOWN = 4
"""Best and worst images shown of each structure."""
WIDTH, HEIGHT = 380, 285
"""Of each picture, pixels."""
BINS = 20
"""Of the histogram of Dice."""
MAX_NAMED = 60
"""Subjects up to which the table names each one; of more, those with the lowest Dice are listed."""
RULE = (
    "Detection counts images. True: engine and label both have the structure, in whatever place; misplaced: "
    "those of them in which outline and label share no pixel. False: the engine outlines it where the label "
    "has none. Missed: the label has it, the engine outlines nothing. An outline is what the engine shows: "
    "at least its smallest area, after its limit on presence."
)


def report_page(result: Mapping[str, Any], evaluation: Evaluation, pictures: Sequence[Picture] | None) -> str:
    """The page of an evaluation with at least one image.

    ``result`` is the answer of the command. ``pictures`` are from :func:`extremes`; None names no image and
    no subject.
    """
    blocks: list[Block] = [
        Paragraph(
            "Research software, not a medical device. These figures hold for this engine on this data, and "
            "say nothing about use on patients."
        ),
        Paragraph(
            "This page holds no image and no name of the data."
            if pictures is None
            else "This page shows images of your data and names its subjects: it is for local eyes only."
        ),
        Bullets(_facts(result)),
    ]
    for name in result["structures"]:
        blocks += _structure(name, result, evaluation, named=pictures is not None)
    if pictures:
        blocks += [
            Heading("Best and worst images"),
            Paragraph(
                "By Dice, of the images in which the structure is labelled or outlined. "
                "Left: the labels. Right: the engine's outlines, also where a display would withhold them. "
                "For local eyes only."
            ),
            *pictures,
        ]
    return to_html(f"Evaluation of {result['engine']['name']}", blocks)


def _facts(result: Mapping[str, Any]) -> list[str]:
    engine = result["engine"]
    subjects = "unknown subjects" if result["subjects"] is None else counted(result["subjects"], "subject")
    over = result["interval_over"]
    facts = [
        f"Engine: {engine['name']} (sha256 {engine['sha256'][:12]}).",
        f"{counted(result['images'], 'image')} of {subjects}. Intervals are 95 % bootstrap intervals over "
        + ("subjects." if over == "subjects" else "images: too narrow if a subject has several."),
        "Dice and IoU are at the image's own size, and 1 if neither engine nor label has the structure. "
        "Distances, centroids and areas are over the images in which both have it.",
        "States: " + ", ".join(f"{state} {count}" for state, count in result["states"].items()) + ".",
        RULE,
    ]
    if result["trained_on"]:
        facts.append(
            f"The weights were trained on {result['trained_on']} of these images, which makes the figures "
            f"too good. Mean Dice of the others: {figure(result['dice_mean_held_back'])}."
        )
    return facts


def _structure(name: str, result: Mapping[str, Any], evaluation: Evaluation, *, named: bool) -> list[Block]:
    found = result["structures"][name]
    images = evaluation.labelled(name)
    blocks: list[Block] = [
        Heading(name.capitalize()),
        _overview(found),
        _dice_chart(name, images),
        Heading("By size of the structure", 3),
        *_sizes(name, found, images),
        Heading("Area", 3),
        *_areas(name, found, images),
        Heading("Risk against coverage", 3),
        *_risks(name, found, images),
        Heading("Images unlike the training data", 3),
        Paragraph(_unlike(found["unlike"], found["dice_mean"])),
    ]
    if found["by_subject"]:
        blocks += [Heading("By subject", 3), *_subjects(name, found["by_subject"], named=named)]
    return blocks


def with_interval(value: float | None, interval: Interval, unit: str = "") -> str:
    """``0.71 (0.65 to 0.78)``."""
    if value is None:
        return UNKNOWN
    ends = "" if interval is None else f" ({signed(interval[0])} to {signed(interval[1])})"
    return f"{signed(value)}{unit and ' '}{unit}{ends}"


def signed(value: float) -> str:
    """Three significant digits, also of a negative number."""
    return f"-{figure(-value)}" if value < 0 else figure(value)


def _overview(found: Mapping[str, Any]) -> Table:
    ends, seen = found["intervals"], found["detection"]
    rows = [
        ("images", str(found["images"])),
        ("Dice, mean", with_interval(found["dice_mean"], found["dice_interval"])),
        ("Dice, median", figure(found["dice_median"])),
        ("IoU, mean", with_interval(found["iou_mean"], ends["iou"])),
        ("detection: true (of them misplaced)", f"{seen['true']} ({seen['misplaced']})"),
        ("detection: false", str(seen["false"])),
        ("detection: missed", str(seen["missed"])),
        ("sensitivity", with_interval(found["sensitivity"], ends["sensitivity"])),
        ("specificity", with_interval(found["specificity"], ends["specificity"])),
        ("images with outline and label", str(found["outlines"])),
    ]
    for unit in ("px", "mm"):
        if found[f"hd95_mean_{unit}"] is not None:
            rows += [
                ("HD95, mean", with_interval(found[f"hd95_mean_{unit}"], ends[f"hd95_{unit}"], unit)),
                ("HD95, median", f"{figure(found[f'hd95_median_{unit}'])} {unit}"),
                (
                    "centroid error, mean",
                    with_interval(found[f"centroid_error_mean_{unit}"], ends[f"centroid_error_{unit}"], unit),
                ),
                ("centroid error, median", f"{figure(found[f'centroid_error_median_{unit}'])} {unit}"),
            ]
    return Table("Figures with 95 % intervals", ("figure", "value"), rows)


def _dice_chart(name: str, images: Sequence[ImageFigures]) -> Picture:
    figures = [image.structures[name] for image in images]
    some = [one.count.dice for one in figures if one.count.present or one.count.found]
    with style():
        drawing = blank(2.2)
        axes = drawing.subplots()
        axes.hist(some, bins=np.linspace(0, 1, BINS + 1).tolist(), color=DARK)
        axes.set(xlim=(0, 1), xlabel="Dice", ylabel="images")
        data = svg(drawing)
    rest = len(figures) - len(some)
    caption = f"Dice of the {counted(len(some), 'image')} in which the {name} is labelled or outlined"
    caption += f"; {rest} more have neither." if rest else "."
    return Picture(f"{name}-dice.svg", data, caption, "Histogram of Dice")


def _sizes(name: str, found: Mapping[str, Any], images: Sequence[ImageFigures]) -> list[Block]:
    if not found["by_size"]:
        return [Paragraph(f"No image has a labelled {name}.")]
    present = [image.structures[name] for image in images if image.structures[name].count.present]
    with style():
        drawing = blank(2.6)
        axes = drawing.subplots()
        axes.scatter(
            [100 * one.labelled_share for one in present],
            [one.count.dice for one in present],
            s=10,
            color=DARK,
            alpha=0.5,
        )
        for part in found["by_size"]:
            ends = [100 * part["smallest"], 100 * part["largest"]]
            axes.plot(ends, [part["dice_mean"]] * 2, color=ALARM, lw=2.5)
        axes.set(ylim=(-0.02, 1.02), xlabel=f"labelled {name}, % of the image", ylabel="Dice")
        data = svg(drawing)
    rows = [
        (
            f"{100 * part['smallest']:.2f} to {100 * part['largest']:.2f} %",
            str(part["images"]),
            with_interval(part["dice_mean"], part["dice_interval"]),
            _counts(part["detection"]),
        )
        for part in found["by_size"]
    ]
    return [
        Table(
            f"By the labelled {name}'s share of the image",
            ("size", "images", "Dice", "true / misplaced / false / missed"),
            rows,
        ),
        Picture(
            f"{name}-size.svg",
            data,
            "A point is an image; the lines are the means of the parts.",
            "Dice against labelled size",
        ),
    ]


def _counts(detection: Mapping[str, int]) -> str:
    return " / ".join(str(detection[key]) for key in ("true", "misplaced", "false", "missed"))


def _areas(name: str, found: Mapping[str, Any], images: Sequence[ImageFigures]) -> list[Block]:
    if found["area_px"] is None:
        return [Paragraph("No image has both an outline and a label.")]
    rows = []
    for key, unit in (("area_px", "px"), ("area_mm2", "mm²"), ("area_percent", "%")):
        if (one := found[key]) is not None:
            limits = None if one["low"] is None else (one["low"], one["high"])
            words = UNKNOWN if limits is None else f"{signed(limits[0])} to {signed(limits[1])} {unit}"
            rows.append((unit, with_interval(one["bias"], one["bias_interval"], unit), words))
    counts = [image.structures[name].count for image in images if image.structures[name].outlined]
    percents = [percent_difference(count.predicted, count.true) for count in counts]
    known = found["area_percent"]
    with style():
        drawing = blank(2.8)
        axes = drawing.subplots()
        means = [(count.predicted + count.true) / 2 for count in counts]
        axes.scatter(means, percents, s=10, color=DARK, alpha=0.5)
        axes.axhline(0, color=GREY, lw=1)
        axes.axhline(known["bias"], color=ALARM, lw=1.5, label="bias")
        if known["low"] is not None:
            for place, label in ((known["low"], "limits of agreement"), (known["high"], None)):
                axes.axhline(place, color=LIGHT, lw=1.5, ls="--", label=label)
        axes.set(xlabel="mean of both areas, px", ylabel="outlined - labelled, %")
        drawing.legend(frameon=False, loc="outside upper right", ncols=2)
        data = svg(drawing)
    return [
        Table(
            "Outlined minus labelled area, with 95 % limits of agreement",
            ("unit", "bias (95 % interval)", "limits of agreement"),
            rows,
        ),
        Picture(
            f"{name}-area.svg",
            data,
            "Bland-Altman: difference of the areas in percent of their mean, against their mean.",
            "Difference of areas against their mean",
        ),
    ]


def _risks(name: str, found: Mapping[str, Any], images: Sequence[ImageFigures]) -> list[Block]:
    known = found["risk_coverage"]
    if known is None:
        return [Paragraph("The engine outlined nothing.")]
    outlines = [image.structures[name] for image in images if image.structures[name].count.found]
    confidence = np.array([one.confidence for one in outlines])
    risk = np.array([1 - one.count.dice for one in outlines])
    with style():
        drawing = blank(2.6)
        axes = drawing.subplots()
        _draw_curve(axes, curve(confidence, risk), DARK, "by confidence")
        _draw_curve(axes, curve(-risk, risk), GREY, "best order possible")
        axes.axhline(float(risk.mean()), color=ALARM, ls=":", lw=1.2, label="confidence that says nothing")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="coverage", ylabel="risk: 1 - Dice")
        drawing.legend(frameon=False, loc="outside upper center", ncols=3)
        data = svg(drawing)
    rows = [
        (percent(point["coverage"]), figure(point["confidence"]), figure(point["risk"]))
        for point in known["points"]
    ]
    return [
        Paragraph(
            f"Of the {counted(known['outlines'], 'outline')}, false ones included (Dice 0), those of the "
            f"highest confidence are kept. Area under the curve: {figure(known['aurc'])}; of the best order "
            f"possible: {figure(known['aurc_best'])}; of a confidence that says nothing: "
            f"{figure(float(risk.mean()))}."
        ),
        Picture(f"{name}-risk.svg", data, "Risk against coverage.", "Risk against coverage"),
        Table("Risk of the outlines kept", ("coverage", "lowest confidence", "risk"), rows),
    ]


def _draw_curve(axes: Axes, values: np.ndarray[Any, np.dtype[np.float64]], colour: str, label: str) -> None:
    axes.plot(np.arange(1, len(values) + 1) / len(values), values, color=colour, lw=1.8, label=label)


def _unlike(unlike: Mapping[str, Any], overall: float) -> str:
    if not unlike["images"]:
        return "None of these images is called unlike the training data."
    effect = "lowers" if unlike["cost"] > 0 else "raises" if unlike["cost"] < 0 else "does not change"
    by = f" by {figure(abs(unlike['cost']))}" if unlike["cost"] else ""
    return (
        f"{counted(unlike['images'], 'image')} are called unlike the training data, whose outlines a display "
        f"withholds. Their mean Dice is {figure(unlike['dice_mean'])} with the outlines, and "
        f"{figure(unlike['dice_mean_withheld'])} without. All figures on this page count the outlines; "
        f"withholding them {effect} the mean Dice of all images{by}, from {figure(overall)} to "
        f"{figure(overall - unlike['cost'])}."
    )


def _subjects(name: str, parts: Sequence[Mapping[str, Any]], *, named: bool) -> list[Block]:
    names = [part["subject"] if named else f"subject {row + 1}" for row, part in enumerate(parts)]
    order = sorted(range(len(parts)), key=lambda row: float(parts[row]["dice_mean"]))
    with style():
        drawing = blank(2.2)
        axes = drawing.subplots()
        axes.scatter(range(1, len(order) + 1), [parts[row]["dice_mean"] for row in order], s=14, color=DARK)
        axes.set(ylim=(-0.02, 1.02), xlabel="subjects, by mean Dice", ylabel="mean Dice")
        data = svg(drawing)
    rows = [
        (
            names[row],
            str(parts[row]["images"]),
            figure(parts[row]["dice_mean"]),
            _counts(parts[row]["detection"]),
        )
        for row in order[:MAX_NAMED]
    ]
    less = f", the {MAX_NAMED} with the lowest Dice of {len(parts)}" if len(parts) > MAX_NAMED else ""
    return [
        Picture(f"{name}-subjects.svg", data, "Each point is a subject.", "Mean Dice of each subject"),
        Table(
            f"By subject{less}",
            ("subject", "images", "mean Dice", "true / misplaced / false / missed"),
            rows,
        ),
    ]


def extremes(evaluation: Evaluation, samples: Sequence[Sample], segmenter: Segmenter) -> list[Picture]:
    """The images of the highest and of the lowest Dice, with labels and outlines, for each structure.

    ``samples`` are those that the evaluation had, in its order; the ones shown are read and segmented again.
    """
    pictures = []
    for name in dict.fromkeys(name for image in evaluation.images for name in image.structures):
        dice = {
            row: image.structures[name].count.dice
            for row, image in enumerate(evaluation.images)
            if name in image.structures
            and (image.structures[name].count.present or image.structures[name].count.found)
        }
        order = sorted(dice, key=lambda row: -dice[row])
        best = order[: min(SHOWN, (len(order) + 1) // 2)]
        worst = order[len(best) :][::-1][:SHOWN]
        for kind, rows in (("best", best), ("worst", worst)):
            for rank, row in enumerate(rows, 1):
                image = evaluation.images[row]
                words = (
                    f"{name.capitalize()}, {kind} {rank}: {image.name}, Dice {dice[row]:.2f}, confidence "
                    f"{image.structures[name].confidence:.2f}, {image.state}"
                )
                data = _panels(samples[row], segmenter)
                pictures.append(Picture(f"{name}-{kind}-{rank}.png", data, words, words, shows_data=True))
    return pictures


def _panels(sample: Sample, segmenter: Segmenter) -> bytes:
    found = segmenter.segment(Frame(sample.image, 0, 0))
    labels = {NERVE: sample.nerve} | ({} if sample.vessel is None else {VESSEL: sample.vessel})
    outlines: dict[str, Mask] = {name: one.mask for name, one in found.structures.items()}
    panels = [outlined(sample.image, masks, WIDTH, HEIGHT) for masks in (labels, outlines)]
    return cv2.imencode(".png", np.hstack(panels))[1].tobytes()
