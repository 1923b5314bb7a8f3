"""Charts of the pipeline and of streams: where a frame's age comes from, and what streams cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from streamseg.benchmark.frame_trace import in_order
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.run import Latency
from streamseg.benchmark.rows.streams import StreamsRow
from streamseg.reporting.charts import (
    ALARM,
    DARK,
    GREEN,
    LIGHT,
    blank,
    decades,
    rows_of,
    short,
    style,
    svg,
)
from streamseg.reporting.document import Picture
from streamseg.reporting.formatting import count, figure

STAGES = {
    "decode": "#CC79A7",
    "wait": "#DDDDDD",
    "queue": "#BBBBBB",
    "preprocess": "#56B4E9",
    "infer": DARK,
    "postprocess": GREEN,
    "overlay": LIGHT,
    "display": LIGHT,
}
OTHERS = ("#F0E442", "#D55E00", "#888888", "#000000")
"""Colours of stages that have none of their own, in turn."""
Look = tuple[str, str, str | None]
"""A curve's colour, its marker and line, and its name in the legend."""
BEFORE = "decode"
"""The stage that is over when a frame's age begins."""
QUANTILES = ("p50", "p99")


def stage_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each stage; waiting is grey."""
    unknown = [name for name in names if name not in STAGES]
    extra = {name: OTHERS[turn % len(OTHERS)] for turn, name in enumerate(unknown)}
    return {name: STAGES.get(name) or extra[name] for name in names}


def budget_line(axes: Axes, budget_ms: float) -> None:
    """Draw a horizontal line at the age budget."""
    axes.axhline(budget_ms, color=ALARM, ls="--", lw=1.2, label=f"age budget, {figure(budget_ms)} ms")


def pipeline_charts(rows: Sequence[PipelineRow], stem: str) -> list[Picture]:
    """The charts of a run's modes, whose names begin with ``stem``."""
    drawn = (age_by_stage(rows, stem), age_over_time(rows, stem), waterfalls(rows, stem))
    return [chart for chart in drawn if chart is not None]


def age_by_stage(rows: Sequence[PipelineRow], stem: str) -> Picture | None:
    """A bar per mode of its stages' medians, one after another, and its age's p50 and p99."""
    known = [row for row in rows if any(times.p50 for times in row.stages_ms.values())]
    if not known:
        return None
    names = in_order({name for row in known for name in row.stages_ms})
    colours = stage_colours(names)
    with style():
        drawing = blank(1.2 + 0.5 * len(known))
        axes = drawing.subplots()
        rows_of(axes, [row.key for row in known])
        for place, row in enumerate(known):
            left = -_median(row, BEFORE)
            for name in names:
                width = _median(row, name)
                axes.barh(place, width, 0.6, left=left, color=colours[name], edgecolor="white", lw=0.5)
                left += width
            for age, mark in ((row.age_ms.p50, "|"), (row.age_ms.p99, "d")):
                if age is not None:
                    axes.plot(age, place, mark, color="black", ms=14 if mark == "|" else 5, mew=1.5)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel("milliseconds since captured")
        axes.grid(axis="x", alpha=0.3)
        handles: list[Any] = [Patch(color=colour, label=name) for name, colour in colours.items()]
        for quantile, mark in (("p50", "|"), ("p99", "d")):
            handles.append(Line2D([], [], color="black", marker=mark, ls="", label=f"age, {quantile}"))
        drawing.legend(handles=handles, frameon=False, loc="outside upper center", ncols=5)
        data = svg(drawing)
    caption = (
        "A frame's age when its outline is shown, by stage: each stage's median. Decoding, left of 0, is "
        "over when the age begins; queue is all waiting between stages. Medians of stages do not add up to "
        "the median of their sum, which is marked beside its p99."
    )
    return Picture(f"{stem}-stages.svg", data, caption, "Stacked bars of the stages' medians, a bar per mode")


def _median(row: PipelineRow, stage: str) -> float:
    """Milliseconds of a stage; 0 for one that the mode does not have."""
    return row.stages_ms.get(stage, Latency()).p50 or 0.0


def age_over_time(rows: Sequence[PipelineRow], stem: str) -> Picture | None:
    """The age as the run went on, a panel per mode, and the budget."""
    known = [(row, line) for row in rows if (line := [point for point in row.age_over_time if point[1] > 0])]
    if not known:
        return None
    budget = known[0][0].run.budget_ms
    with style():
        drawing = blank(0.8 + 1.15 * len(known))
        grid = drawing.subplots(len(known), 1, sharey=True, squeeze=False)[:, 0]
        for axes, (row, line) in zip(grid, known, strict=True):
            axes.set_title(short(row.key, 60) + ("" if live(row) else " (no budget: every frame counts)"))
            axes.plot(*zip(*line, strict=True), color=DARK, lw=1)
            axes.set(xlim=(0, max(1e-3, *(seconds for seconds, _ in line))), yscale="log")
            if live(row):
                budget_line(axes, budget)
            axes.grid(axis="y", alpha=0.3)
        ages = [age for _, line in known for _, age in line] + [budget] * any(live(row) for row, _ in known)
        grid[0].set_ylim(0.8 * min(ages), 1.3 * max(ages))
        decades(grid[0].yaxis)
        grid[-1].set_xlabel("seconds since the run began")
        drawing.supylabel("age, ms (logarithmic)", fontsize=9)
        drawing.legend(
            *grid[-1].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2
        )
        data = svg(drawing)
    caption = "Age over time; with more frames than points, each point is the largest age of its span."
    return Picture(f"{stem}-age.svg", data, caption, "Lines of the age over time, a panel per mode")


def live(row: PipelineRow) -> bool:
    """Whether the mode has an age budget."""
    return row.mode != "replay"


def waterfalls(rows: Sequence[PipelineRow], stem: str) -> Picture | None:
    """One frame's life at p50 and at p99 of the age, a line of panels per mode."""
    known = [(row, lives) for row in rows if (lives := _lives(row))]
    if not known:
        return None
    names = [
        list(dict.fromkeys(name for life in lives.values() for name, _, _ in life)) for _, lives in known
    ]
    colours = stage_colours(list(dict.fromkeys(name for own in names for name in own)))
    heights = [len(own) + 1.6 for own in names]
    with style():
        drawing = blank(0.4 + 0.2 * sum(heights))
        grid = drawing.subplots(
            len(known), 2, sharex="row", sharey="row", squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for line, (row, lives), own in zip(grid, known, names, strict=True):
            for axes, quantile in zip(line, QUANTILES, strict=True):
                life = lives.get(quantile, [])
                total = f": {figure(max(end for _, _, end in life))} ms" if life else ": unknown"
                title = row.key if live(row) else "replay"  # a clip's name is too long for half a line
                axes.set_title(f"{short(title, 30)}, {quantile}{total}")
                for name, begin, end in life:
                    axes.barh(own.index(name), end - begin, 0.7, left=begin, color=colours[name])
                axes.grid(axis="x", alpha=0.3)
            rows_of(line[0], own)
            line[0].set_xlim(0, 1.02 * max(end for life in lives.values() for _, _, end in life))
        for axes in grid[-1]:
            axes.set_xlabel("ms since captured")
        data = svg(drawing)
    caption = "One frame's life: the frame whose age is nearest the median, and the one nearest p99."
    return Picture(f"{stem}-life.svg", data, caption, "Bars of the stages of one frame, from begin to end")


def _lives(row: PipelineRow) -> dict[str, list[tuple[str, float, float]]]:
    """The stages of a frame by quantile, as far as they are known."""
    found = row.waterfall or {}
    return {quantile: found[quantile] for quantile in QUANTILES if found.get(quantile)}


def streams_charts(rows: Sequence[StreamsRow], stem: str) -> list[Picture]:
    """Frames per second, age and processor share against the number of streams."""
    known = sorted((row for row in rows if (row.streams or 0) > 0), key=lambda row: row.streams or 0)
    if not known:
        return []
    with style():
        drawing = blank(6.2)
        rate, age, busy = drawing.subplots(3, 1, sharex=True)
        curve(rate, known, lambda row: row.processed_fps, (DARK, "o-", "in all"))
        curve(rate, known, lambda row: row.each_fps, (LIGHT, "s-", "each stream"))
        if (pace := known[0].source_fps) is not None:
            rate.axhline(pace, color="black", ls=":", lw=1, label=f"offered to each: {figure(pace)}")
        rate.set(ylabel="frames per second")
        rate.set_ylim(bottom=0, top=1.1 * max(rate.get_ylim()[1], 1e-9))
        curve(age, known, lambda row: row.age_ms.p99, (DARK, "o-", "p99"))
        curve(age, known, lambda row: row.age_ms.p50, (LIGHT, "s-", "p50"))
        budget_line(age, known[0].run.budget_ms)
        age.set(yscale="log", ylabel="age, ms (logarithmic)")
        decades(age.yaxis)
        curve(busy, known, lambda row: 100 * (row.processor_share or 0.0), (DARK, "o-", None))
        busy.set(ylim=(0, 105), ylabel="processor, %", xlabel="streams side by side", xscale="log")
        counts = [row.streams or 1 for row in known]
        busy.set_xticks(counts, [count(value) for value in counts])
        busy.minorticks_off()
        for axes in (rate, age, busy):
            axes.grid(alpha=0.3)
        for axes in (rate, age):
            axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        data = svg(drawing)
    caption = "What streams cost: frames per second, age of what is displayed, and share of all cores."
    return [Picture(f"{stem}-streams.svg", data, caption, "Curves against the number of streams")]


def curve(
    axes: Axes, rows: Sequence[StreamsRow], of: Callable[[StreamsRow], float | None], look: Look
) -> None:
    """A curve against the number of streams; what is unknown or below 0 is left out."""
    colour, form, label = look
    found = [(row.streams or 0, value) for row in rows if (value := of(row) or 0.0) > 0]
    if found:
        axes.plot(*zip(*found, strict=True), form, color=colour, label=label, ms=5)
