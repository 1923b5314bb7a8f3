"""The report's figures, by matplotlib: colour-blind-safe colours, lines that print in grey."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import matplotlib as mpl
import matplotlib.colors
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from streamseg.core.errors import DataError
from streamseg.core.types import Grey
from streamseg.reporting.charts import png, style, svg
from streamseg.reproduction import paper
from streamseg.reproduction.plan import run_folder, title
from streamseg.reproduction.results import FoldResult, Results, Values
from streamseg.reproduction.summary import ReplicationSummary

COLOURS = {"unet": "#0072B2", "segnet": "#D55E00", "improved_unet": "#009E73"}
"""Of Okabe and Ito's palette."""
OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of the same palette, for what is trained beside the paper's nets."""
TRUTH = "#F0E442"
"""Outline of the reference mask."""
LINES: dict[str, Any] = {"unet": (0, (5, 2)), "segnet": (0, (1, 1.2)), "improved_unet": "-"}
POINTS = 400
"""Maximum points of a curve."""
EXAMPLES = 4
"""Maximum folds whose example Figure 6 shows."""


def loss_figure(results: Results) -> bytes:
    """Figure 7 as SVG: training loss against iterations, the folds' mean within a band of their extremes."""
    with style():
        figure = Figure(figsize=(7, 3.8), layout="constrained")
        axes = figure.subplots()
        for net in results.nets:
            runs = results.compared(net)
            steps, curves = _curves(runs)
            final = fmean(run.final_loss for run in runs)
            label = f"{paper.TITLES[net]}: {final:.3f} at the end"
            axes.fill_between(steps, curves.min(0), curves.max(0), color=COLOURS[net], alpha=0.18, lw=0)
            axes.plot(steps, curves.mean(0), color=COLOURS[net], ls=LINES[net], lw=1.8, label=label)
            for run in runs:  # folds that go on after the shortest has ended
                rest = smoothed(run.losses, run.steps_per_epoch)[steps[-1] - 1 :]
                places = np.arange(steps[-1], steps[-1] + len(rest))
                axes.plot(places, rest, color=COLOURS[net], ls=LINES[net], lw=0.7, alpha=0.7)
        axes.set(xlabel="iteration", ylabel="training loss (running mean over an epoch)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        figure.legend(frameon=False, loc="outside upper center", ncols=3)
        return svg(figure)


def _curves(runs: list[FoldResult]) -> tuple[npt.NDArray[np.int64], Values]:
    """Iterations, and at each the smoothed loss of every run: (points,), (runs, points)."""
    length = min(len(run.losses) for run in runs)  # folds differ by a few images
    steps = np.unique(np.linspace(1, length, POINTS).round().astype(np.int64))
    return steps, np.stack([smoothed(run.losses, run.steps_per_epoch)[steps - 1] for run in runs])


def smoothed(losses: list[float], window: int) -> Values:
    """Running mean of the last ``window`` values, of fewer at the start. Same length."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(losses, np.float64))])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts), np.float64)


def dice_figure(summary: ReplicationSummary) -> bytes:
    """Table 2 as SVG: each net's mean with its interval, its folds, and the paper's value."""
    with style():
        shown = summary.nets | summary.beside
        figure = Figure(figsize=(7, 1.1 + 0.5 * len(shown)), layout="constrained")
        axes = figure.subplots()
        others = dict(zip(summary.beside, cycle(OTHERS)))
        for row, (net, found) in enumerate(shown.items()):
            dice, colour = found.dice, COLOURS[net] if net in COLOURS else others[net]
            ends = [[dice.mean - _end(dice.low, dice.mean)], [_end(dice.high, dice.mean) - dice.mean]]
            first = row == 0
            axes.plot(
                [paper.DICE[net]] if net in paper.DICE else [],
                [row] if net in paper.DICE else [],
                "s",
                mfc="none",
                mec="#555555",
                ms=8,
                label="paper (other images)" if first else None,
            )
            axes.plot(
                found.dice_folds,
                [row + 0.22] * len(found.dice_folds),
                "o",
                color=colour,
                alpha=0.6,
                ms=4,
                label="each fold" if first else None,
            )
            axes.errorbar(
                [dice.mean],
                [row],
                xerr=ends,
                fmt="D",
                color=colour,
                capsize=4,
                ms=6,
                label="mean, 95 % interval" if first else None,
            )
        axes.set_yticks(range(len(shown)), [title(net) for net in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("Dice")
        axes.grid(axis="x", alpha=0.3)
        figure.legend(frameon=False, loc="outside upper center", ncols=3)
        return svg(figure)


def _end(end: float | None, mean: float) -> float:
    return mean if end is None else end


def example_figure(results: Results, out: Path) -> bytes:
    """Figure 6 as PNG: per fold an image, its mask, and each net's outline. Raises DataError."""
    folds = results.complete[:EXAMPLES]
    columns = 2 + len(results.nets)
    with style():
        figure = Figure(figsize=(2.4 * columns, 2.1 * len(folds)), layout="constrained", dpi=110)
        grid = figure.subplots(len(folds), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, fold in zip(grid, folds, strict=True):
            image, truth = (_read(out / "examples" / f"{fold + 1}-{name}.png") for name in ("image", "mask"))
            for axes in row:
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            row[0].set_title(f"image (fold {fold + 1})")
            row[1].set_title("mask")
            _overlay(row[1], truth, TRUTH)
            for axes, net in zip(row[2:], results.nets, strict=True):
                run = results.runs[net, fold]
                dice = next(found["dice"] for found in run.images if found["name"] == run.example)
                axes.set_title(f"{paper.TITLES[net]}, Dice {dice:.2f}")
                _overlay(axes, _read(run_folder(out, net, fold) / "example.png"), COLOURS[net])
                _outline(axes, truth, TRUTH, linewidths=0.9, linestyles="dashed")
        return png(figure)


def _overlay(axes: Any, mask: Grey, colour: str) -> None:
    """Tint and outline a mask of 0 and 255."""
    tint = np.zeros((*mask.shape, 4))
    tint[mask > 127] = mpl.colors.to_rgba(colour, 0.35)
    axes.imshow(tint)
    _outline(axes, mask, colour, linewidths=1.4)


def _outline(axes: Any, mask: Grey, colour: str, **style: Any) -> None:
    if mask.any() and not mask.all():  # matplotlib warns of empty contours
        axes.contour(mask, levels=[127], colors=[colour], **style)


def _read(path: Path) -> Grey:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(
            f"cannot read {path}; remove the {'run' if 'runs' in path.parts else 'report'} it is of"
        )
    return np.asarray(image, np.uint8)
