"""Charts of nets and of peers: frames per second, share of the machine's limit, and every call's latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Patch

from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.tables import by_kind, by_net, by_size, kind_title, title, variant
from streamseg.reporting.charts import (
    ALARM,
    DARK,
    GREY,
    LIGHT,
    blank,
    decades,
    rows_of,
    short,
    style,
    svg,
    write_beside,
)
from streamseg.reporting.document import Picture
from streamseg.reporting.formatting import figure, percent

RATES = (("engine_fps", -0.2, DARK), ("end_to_end_fps", 0.2, LIGHT))
"""A figure, the shift of its bar from its row's place, and the bar's colour."""
BINS = 70
"""Of a latency histogram, over all variants of a net."""


def overview(rows: Sequence[NetRow], stem: str) -> list[Picture]:
    """The charts of all nets, size by size, whose names begin with ``stem``."""
    charts = []
    for point, own in by_size(rows):
        place = f"{stem}-{point.replace(', batch ', '-b')}"
        charts += [rates(own, point, place), limit_shares(own, point, place)]
    return [chart for chart in charts if chart is not None]


def histograms(rows: Sequence[NetRow], net: str, stem: str) -> list[Picture]:
    """One net's latencies, size by size."""
    charts = [
        latency_histograms(own, f"{net} at {point}", f"{stem}-{point.replace(', batch ', '-b')}")
        for point, own in by_size(rows)
    ]
    return [chart for chart in charts if chart is not None]


def rates(rows: Sequence[NetRow], point: str, stem: str) -> Picture | None:
    """Bars of the engine's and the end-to-end frames per second, a panel per net on one axis."""
    known = [row for row in rows if row.engine_fps is not None]
    if not known:
        return None
    nets = by_net(known)
    heights = [len(own) for _, own in nets]
    with style():
        drawing = blank(0.9 + 0.42 * sum(heights) + 0.3 * len(nets))
        grid = drawing.subplots(
            len(nets), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for axes, (net, own) in zip(grid[:, 0], nets, strict=True):
            axes.set_title(short(net, 80))
            rows_of(axes, [variant(row) for row in own])
            for name, shift, colour in RATES:
                found = [
                    (rate, place + shift) for place, row in enumerate(own) if (rate := getattr(row, name))
                ]
                lengths, places = [rate for rate, _ in found], [place for _, place in found]
                axes.barh(places, lengths, 0.38, color=colour)
                write_beside(axes, lengths, places, [figure(rate) for rate in lengths])
        longest = max(getattr(row, name) or 0.0 for row in known for name, _, _ in RATES)
        grid[-1, 0].set(xlabel="frames per second", xlim=(0, 1.12 * longest if longest > 0 else 1.0))
        bars = [
            Patch(color=DARK, label="engine alone"),
            Patch(color=LIGHT, label="end to end: decoded, segmented, drawn"),
        ]
        drawing.legend(handles=bars, frameon=False, loc="outside upper center", ncols=2)
        data = svg(drawing)
    best = max(known, key=lambda row: row.engine_fps or 0.0)
    top = f"{figure(best.engine_fps)} frames/s"
    alt = f"Bars; the longest: {title(best.net)} in {variant(best)}, {top}"
    return Picture(f"{stem}-rates.svg", data, f"Frames per second at {point}, one axis for all nets.", alt)


def limit_shares(rows: Sequence[NetRow], point: str, stem: str) -> Picture | None:
    """Each variant's share of the machine's limit in its precision, with the spread over rounds."""
    known = [row for row in rows if row.limit_share is not None]
    if not known:
        return None
    with style():
        drawing = blank(0.8 + 0.27 * len(known))
        axes = drawing.subplots()
        rows_of(axes, [f"{title(row.net)}, {variant(row)}" for row in known])
        values = [100 * (row.limit_share or 0.0) for row in known]
        axes.barh(range(len(known)), values, 0.62, color=DARK)
        ends = list(values)
        for place, row in enumerate(known):
            least, most = row.limit_share_spread.min, row.limit_share_spread.max
            if least is not None and most is not None:
                axes.plot([100 * least, 100 * most], [place, place], color="black", lw=1.2, marker="|", ms=5)
                ends[place] = max(values[place], 100 * most)
        write_beside(axes, ends, range(len(known)), [percent(row.limit_share) for row in known])
        axes.set_xlim(0, max(110.0, axes.get_xlim()[1]))
        axes.axvline(100, color=ALARM, ls="--", lw=1.2, zorder=1.5)
        axes.set_xlabel("% of the machine's limit")
        data = svg(drawing)
    caption = (
        f"Share of the machine's limit at {point}, measured in the same rounds: the net's own arithmetic per "
        "second against the fastest kernel's. It may exceed 100 % if arithmetic is spared."
    )
    return Picture(f"{stem}-limit.svg", data, caption, "Bars of each variant's share of the machine's limit")


def latency_histograms(rows: Sequence[NetRow], name: str, stem: str) -> Picture | None:
    """Histograms of every engine call, a panel per variant on one logarithmic axis."""
    known = [(row, calls) for row in rows if (calls := _calls(row))]
    if not known:
        return None
    least, most = (pick(pick(calls) for _, calls in known) for pick in (min, max))
    edges = np.geomspace(0.97 * least, 1.03 * most, BINS + 1)
    with style():
        drawing = blank(0.75 + 0.72 * len(known))
        grid = drawing.subplots(len(known), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (row, calls) in zip(grid, known, strict=True):
            counts, _ = np.histogram(calls, edges)
            axes.stairs(counts, edges, fill=True, color=DARK)
            axes.set(xscale="log", yscale="log", ylim=(0.6, max(2.0, 1.6 * float(counts.max()))))
            p50, p99 = np.percentile(calls, (50, 99))
            axes.axvline(p50, color="black", lw=1, label="p50")
            axes.axvline(p99, color=ALARM, lw=1, ls="--", label="p99")
            axes.set_title(
                f"{short(variant(row))}: {len(calls)} calls, p50 {figure(p50)}, p99 {figure(p99)}, "
                f"max {figure(max(calls))} ms"
            )
            axes.tick_params(axis="y", labelsize=7)
            decades(axes.yaxis, (1.0,))
        decades(grid[-1].xaxis)
        grid[-1].set_xlabel("milliseconds per call (logarithmic); height: calls (logarithmic)")
        drawing.legend(
            *grid[0].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2
        )
        data = svg(drawing)
    total = sum(len(calls) for _, calls in known)
    caption = f"Latency of the engine's calls, {name}: all {total} that were timed, none left out."
    return Picture(f"{stem}-latency.svg", data, caption, f"Histograms of the latency of {name}")


def _calls(row: NetRow) -> list[float]:
    """Milliseconds of every call."""
    return [ms for block in row.durations_ms for ms in block if ms > 0]


def peers_charts(rows: Sequence[PeerRow], stem: str) -> list[Picture]:
    """Frames per second of ours and of peers, a panel per kind on an axis of its own."""
    found = [(kind, [row for row in own if row.fps is not None]) for kind, own in by_kind(rows)]
    kinds = [(kind, own) for kind, own in found if own]
    if not kinds:
        return []
    heights = [len(own) for _, own in kinds]
    with style():
        drawing = blank(0.4 + 0.27 * sum(heights) + 0.6 * len(kinds))
        grid = drawing.subplots(len(kinds), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for axes, (kind, own) in zip(grid, kinds, strict=True):
            values = [row.fps or 0.0 for row in own]
            colours = [DARK if row.ours else GREY for row in own]
            axes.set_title(short(kind_title(kind), 80))
            axes.barh(range(len(own)), values, 0.66, color=colours)
            rows_of(axes, [name_of(row) for row in own])
            write_beside(axes, values, range(len(own)), [beside(row) for row in own])
        grid[-1].set_xlabel("frames per second")
        data = svg(drawing)
    caption = (
        "Ours (dark) and others (grey) in one interleaved run, each panel on its own axis; after a peer's "
        "frames per second: how many times as fast ours is."
    )
    return [Picture(f"{stem}-peers.svg", data, caption, "Bars of the frames per second of ours and of peers")]


def name_of(row: PeerRow) -> str:
    """A peer's name, with its precision if the name does not have it."""
    name = row.name or row.key
    return name if row.precision.lower() in name.lower() else f"{name} {row.precision.upper()}"


def beside(row: PeerRow) -> str:
    """A peer's rate, and how many times as fast ours is."""
    if row.ours:
        return f"{figure(row.fps)} (ours)"
    ratio = row.ratio.median
    return figure(row.fps) if ratio is None else f"{figure(row.fps)}, x {figure(ratio)}"
