"""The report of a round: figures before and after, the learning curve, and pictures of both side by side.

It shows images of the user's data, and so is for this machine only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from streamseg.adaptation.comparison import Comparison, Outlines
from streamseg.adaptation.history import History, Round
from streamseg.core.files import write_text
from streamseg.core.types import Image
from streamseg.datasets import Sample
from streamseg.evaluation.intervals import Interval
from streamseg.render.contact_sheet import outlined
from streamseg.reporting.document import Block, Bullets, Heading, Paragraph, Picture, Table, to_html

SHOWN = 12
"""Frames shown: those that gained most, those that lost most, and some between."""
WIDTH, HEIGHT = 380, 285
"""Of each picture, pixels."""
FLAT = 0.01
"""A gain of Dice over the round before that is smaller says that the curve is flat."""


def write_report(
    path: Path,
    history: History,
    comparison: Comparison,
    samples: Sequence[Sample],
    pictures: tuple[Sequence[Outlines], Sequence[Outlines]],
) -> None:
    """Write the HTML page of a history's last round. Raises SinkError."""
    done = history.rounds[-1]
    blocks: list[Block] = [
        Paragraph(
            f"{_verdict(done, comparison)} This page shows frames of your data: keep it on this machine."
        ),
        Table(
            f"Dice on {len(samples)} held-back frames (95 % intervals over {comparison.structures[0].over})",
            ("structure", "frames", "before", "after", "difference"),
            [
                (
                    one.structure,
                    str(one.images),
                    with_interval(one.before, one.before_interval),
                    with_interval(one.after, one.after_interval),
                    with_interval(one.difference, one.difference_interval, sign=True),
                )
                for one in comparison.structures
            ],
        ),
        Bullets(_facts(done, comparison)),
        *_curve(history),
        Heading("Held-back frames"),
        Paragraph("Left: the labels. Middle: before. Right: after."),
        *_pictures(comparison, samples, pictures),
    ]
    write_text(path, to_html(f"Adaptation {history.folder.name}, round {done.number}", blocks))


def with_interval(value: float, interval: Interval, *, sign: bool = False) -> str:
    """``0.73 (0.66 to 0.79)``."""
    plus = "+" if sign else ""
    ends = "" if interval is None else f" ({interval[0]:{plus}.2f} to {interval[1]:{plus}.2f})"
    return f"{value:{plus}.3f}{ends}"


def _verdict(done: Round, comparison: Comparison) -> str:
    if not done.accepted:
        return f"Not accepted: {'; '.join(done.reasons)}."
    if comparison.certain():
        return "Accepted: the adapted net is better on the frames that were held back."
    return (
        "Accepted: the adapted net is better on the frames that were held back, but so little, or on so few, "
        "that it may be chance."
    )


def _facts(done: Round, comparison: Comparison) -> list[str]:
    before, after = (
        ", ".join(f"{state} {count}" for state, count in states.items()) for states in comparison.states
    )
    quiet, loud = comparison.false_alarms
    subjects = (
        "unknown subjects, held back as one block" if done.subjects is None else f"{done.subjects} subjects"
    )
    return [
        f"{done.images} labelled frames of {subjects}; {done.trained} trained the net, which began from "
        f"{done.base}; {done.minutes:g} minutes.",
        f"States of the held-back frames before: {before}. After: {after}. Confidence was fitted on these "
        "frames too.",
        f"Phantoms without nerve that get an outline: before {quiet:.0%}, after {loud:.0%}.",
        f"Engine: {done.engine}.",
        f"Licence of the data: {done.licence or 'no note was given'}.",
    ]


def curve_points(history: History) -> list[tuple[int, float, Interval]]:
    """Training frames, Dice after and its interval of each round, by frames."""
    points = []
    for one in history.rounds:
        nerve = one.figures["structures"][0]
        ends = nerve["after_interval"]
        points.append((one.trained, float(nerve["after"]), None if ends is None else (ends[0], ends[1])))
    return sorted(points, key=lambda point: point[0])


def curve_line(history: History) -> str:
    """The learning curve in words, with what it suggests."""
    points = curve_points(history)
    words = ", ".join(f"{trained} frames {dice:.3f}" for trained, dice, _ in points)
    if len(points) < 2:
        return f"learning curve: {words}; select and label more frames to see whether it still rises"
    gain = points[-1][1] - points[-2][1]
    advice = "it is flat" if gain < FLAT else "it still rises: select and label more frames"
    return f"learning curve: {words} ({gain:+.3f}); {advice}"


def _curve(history: History) -> list[Block]:
    from streamseg.reporting.charts import DARK, GREY, blank, style, svg

    points = curve_points(history)
    with style():
        figure = blank(2.6)
        axes = figure.subplots()
        frames, dice = [point[0] for point in points], [point[1] for point in points]
        axes.plot(frames, dice, "o-", color=DARK)
        for trained, value, ends in points:
            if ends is not None:
                axes.plot([trained, trained], list(ends), color=DARK, alpha=0.4)
            axes.annotate(f"{value:.2f}", (trained, value), (4, 4), textcoords="offset points", fontsize=8)
        first = history.rounds[0].figures["structures"][0]["before"]
        axes.axhline(first, color=GREY, linestyle="--")
        axes.set_xlabel("labelled frames that trained the net")
        axes.set_ylabel("Dice, held-back frames")
        axes.set_ylim(0, 1)
        axes.set_xlim(0, 1.1 * max(frames))
        data = svg(figure)
    line = curve_line(history)
    return [
        Heading("Learning curve"),
        Picture("curve.svg", data, f"{line[0].upper()}{line[1:]}. Dashed: before the first round.", line),
    ]


def _pictures(
    comparison: Comparison,
    samples: Sequence[Sample],
    pictures: tuple[Sequence[Outlines], Sequence[Outlines]],
) -> list[Block]:
    gains = [b - a for a, b in zip(*comparison.nerve_dice, strict=True)]
    ordered = sorted(range(len(samples)), key=lambda row: -gains[row])
    rows = ordered
    if len(ordered) > SHOWN:
        part = SHOWN // 3
        middle = ordered[part:-part]
        rows = [*ordered[:part], *middle[:: max(1, len(middle) // part)][:part], *ordered[-part:]]
    blocks: list[Block] = []
    for row in rows:
        sample, before, after = samples[row], pictures[0][row], pictures[1][row]
        truth = {"nerve": sample.nerve} | ({} if sample.vessel is None else {"vessel": sample.vessel})
        panels = [
            outlined(sample.image, masks, WIDTH, HEIGHT) for masks in (truth, before.masks, after.masks)
        ]
        dice = [values[row] for values in comparison.nerve_dice]
        caption = (
            f"{sample.name}: Dice {dice[0]:.2f} ({before.state}), after {dice[1]:.2f} ({after.state}, "
            f"confidence {after.confidence:.2f})"
        )
        blocks.append(
            Picture(f"{sample.name}.png", _png(np.hstack(panels)), caption, caption, shows_data=True)
        )
    return blocks


def _png(image: Image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
