"""The tables of a benchmark's report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamseg.benchmark.frame_trace import in_order
from streamseg.benchmark.report.reading import at, items, mapping, number, shares, size, spread, text, variant
from streamseg.benchmark.rows import Row
from streamseg.reporting.document import Table
from streamseg.reporting.formatting import UNKNOWN, count, figure, megabytes, percent

Rows = Sequence[Row]
Column = tuple[str, Callable[[Row], str]]
KINDS = {
    "runtime": "The same weights in other runtimes",
    "pipeline": "From the file to the drawn outline, by other programs",
    "net": "Other nets of this kind at the same input",
}
"""Of peers, in the order of the report."""


def millis(*path: str) -> Callable[[Row], str]:
    """A column of milliseconds, or of another plain figure."""
    return lambda row: figure(number(row, *path))


def whole(*path: str) -> Callable[[Row], str]:
    """A column of numbers of things."""
    return lambda row: count(number(row, *path))


def make_table(
    caption: str, names: str, rows: Rows, name: Callable[[Row], str], columns: Sequence[Column]
) -> Table:
    """A row per result, named in the first column; a column in which nothing is known is left out."""
    cells = [[column(row) for row in rows] for _, column in columns]
    kept = [index for index, found in enumerate(cells) if any(cell not in (UNKNOWN, "") for cell in found)]
    return Table(
        caption,
        (names, *(columns[index][0] for index in kept)),
        [(name(row), *(cells[index][turn] for index in kept)) for turn, row in enumerate(rows)],
    )


def net_tables(net: str, rows: Rows) -> list[Table]:
    """One net's tables: how fast, what it computes, and what becomes of frames that come at a pace."""
    label = labels(rows)
    content = make_table(f"{net}: what it computes, and what it takes", "variant", rows, label, CONTENT)
    return [
        make_table(f"{net}: speed", "variant", rows, label, SPEED),
        *([content] if len(content.header) > 1 else []),
        *paced_table(net, rows, label),
    ]


def labels(rows: Rows) -> Callable[[Row], str]:
    """Names a net's variants: with the size only where there are several."""
    several = len({size(row) for row in rows}) > 1
    return lambda row: f"{variant(row)}, {size(row)}" if several else variant(row)


SPEED: Sequence[Column] = (
    ("engine, frames/s", millis("engine_fps")),
    ("end to end, frames/s", millis("end_to_end_fps")),
    ("p50, ms", millis("latency_ms", "p50")),
    ("p95", millis("latency_ms", "p95")),
    ("p99", millis("latency_ms", "p99")),
    ("max", millis("latency_ms", "max")),
    ("calls", whole("calls")),
    ("x eager", lambda row: spread(row, "ratio_to_eager")),
    ("GFLOP/s", millis("gflop_per_s")),
    ("of the limit", lambda row: percent(number(row, "limit_share"))),
)
CONTENT: Sequence[Column] = (
    ("found to compute in", lambda row: shares(mapping(row, "precision_found")) or UNKNOWN),
    ("Dice", lambda row: exact(number(row, "dice"))),
    ("masks like FP32's, Dice", lambda row: exact(number(row, "mask_agreement"))),
    ("probabilities off FP32's by", millis("probability_difference")),
    ("engine from", lambda row: text(row, "engine", "from") or UNKNOWN),
    ("model, MB", lambda row: megabytes(number(row, "model_bytes"))),
    ("peak, MB", lambda row: megabytes(number(row, "peak_host_bytes"))),
    ("peak on the GPU, MB", lambda row: megabytes(number(row, "peak_gpu_bytes"))),
    ("warm start, s", millis("start_s", "warm")),
    ("built in, s", millis("start_s", "build")),
    ("cold start, s", millis("start_s", "cold")),
    ("J per frame", millis("energy_j_per_frame")),
)


def exact(value: float | None) -> str:
    """A share of 1 to three digits behind the point."""
    return UNKNOWN if value is None else f"{value:.3f}"


def paced_table(net: str, rows: Rows, label: Callable[[Row], str]) -> list[Table]:
    """What became of frames that came at a pace, where that was measured."""
    found = [{**row, "pace": pace} for row in rows for pace in items(row, "paced") if mapping(pace)]
    if not found:
        return []
    columns: Sequence[Column] = (
        ("frames/s offered", whole("pace", "fps")),
        ("offered", whole("pace", "offered")),
        ("processed", whole("pace", "processed")),
        ("dropped", whole("pace", "dropped")),
        ("age p50, ms", millis("pace", "age_ms", "p50")),
        ("p99", millis("pace", "age_ms", "p99")),
        ("max", millis("pace", "age_ms", "max")),
        ("within the budget", lambda row: percent(number(row, "pace", "within_budget"), 1)),
    )
    return [make_table(f"{net}: frames that come at a pace", "variant", found, label, columns)]


def pipeline_tables(rows: Rows) -> list[Table]:
    """What became of the frames, and the stages of their age."""
    columns: Sequence[Column] = (
        ("pace, frames/s", whole("source_fps")),
        ("offered", whole("offered")),
        ("processed", whole("processed")),
        ("dropped", whole("dropped")),
        ("frames/s", millis("fps")),
        ("age p50, ms", millis("age_ms", "p50")),
        ("p95", millis("age_ms", "p95")),
        ("p99", millis("age_ms", "p99")),
        ("max", millis("age_ms", "max")),
        ("within the budget", lambda row: percent(number(row, "within_budget"), 1)),
    )
    first = make_table("Frames and their age", "mode", rows, mode, columns)
    names = in_order({name for row in rows for name in mapping(row, "stages_ms")})
    stages: Sequence[Column] = [(name, stage_column(name)) for name in names]
    return [first, make_table("Stages, milliseconds: p50 / p99", "mode", rows, mode, stages)]


def mode(row: Row) -> str:
    """``live 30 fps``: what the row calls itself."""
    return text(row, "key")


def stage_column(name: str) -> Callable[[Row], str]:
    """The times of one stage; unknown where a mode has no such stage."""

    def column(row: Row) -> str:
        p50, p99 = (number(row, "stages_ms", name, quantile) for quantile in ("p50", "p99"))
        return UNKNOWN if p50 is None else f"{figure(p50)} / {figure(p99)}"

    return column


def streams_tables(rows: Rows) -> list[Table]:
    """What streams side by side cost, and the streams that fared worst and best."""
    columns: Sequence[Column] = (
        ("frames/s offered to each", whole("source_fps")),
        ("offered", whole("offered")),
        ("processed", whole("processed")),
        ("dropped", whole("dropped")),
        ("processed, frames/s", millis("processed_fps")),
        ("of each stream", lambda row: figure(per_stream(row))),
        ("age p50, ms", millis("age_ms", "p50")),
        ("p99", millis("age_ms", "p99")),
        ("within the budget, worst stream", lambda row: percent(number(row, "within_budget"), 1)),
        ("least to most processed by a stream", fewest_and_most),
        ("processor", lambda row: percent(number(row, "processor_share"))),
        ("frames per call", millis("batch_fill")),
        ("holds the budget", lambda row: yes_or_no(at(row, "holds_budget"))),
        ("every frame", lambda row: yes_or_no(at(row, "holds_every_frame"))),
    )
    return [make_table("Streams side by side", "streams", rows, whole("streams"), columns)]


def per_stream(row: Row) -> float | None:
    """Frames per second that each stream got on average."""
    streams, rate = number(row, "streams"), number(row, "processed_fps")
    return rate / streams if streams and rate is not None else None


def fewest_and_most(row: Row) -> str:
    """Frames of the stream that got fewest and of that which got most."""
    found = [value for each in items(row, "per_stream") if (value := number(each, "processed")) is not None]
    return f"{count(min(found))} to {count(max(found))}" if found else UNKNOWN


def yes_or_no(value: object) -> str:
    """A truth value in a table."""
    return UNKNOWN if not isinstance(value, bool) else "yes" if value else "no"


def peers_tables(rows: Rows) -> list[Table]:
    """One table per kind, the fastest first; ours say so."""
    columns: Sequence[Column] = (
        ("precision", lambda row: text(row, "precision") or UNKNOWN),
        ("frames/s", millis("fps")),
        ("p50, ms", millis("latency_ms", "p50")),
        ("p99", millis("latency_ms", "p99")),
        ("ours is x times as fast", lambda row: spread(row, "ratio")),
        ("probabilities off by at most", millis("difference")),
        ("masks alike, Dice", lambda row: exact(number(row, "mask_dice"))),
        ("GFLOP", millis("gflop")),
        ("ready after, s", millis("ready_s")),
        ("version", lambda row: text(row, "version") or UNKNOWN),
    )
    return [make_table(caption, "what", found, peer, columns) for caption, found in by_kind(rows)]


def reasons(rows: Rows) -> list[str]:
    """Why peers are faster or slower, as far as it is known."""
    return [f"{text(row, 'name')}: {why}" for row in rows if (why := text(row, "why"))]


def by_kind(rows: Rows) -> list[tuple[str, list[Row]]]:
    """Each kind's title and rows, the fastest first; kinds that the report does not know come last."""
    kinds = dict.fromkeys((*KINDS, *(text(row, "kind") for row in rows)))
    found = [
        (KINDS.get(kind, kind or "other"), [row for row in rows if text(row, "kind") == kind])
        for kind in kinds
    ]
    return [
        (caption, sorted(own, key=lambda row: -(number(row, "fps") or 0.0))) for caption, own in found if own
    ]


def peer(row: Row) -> str:
    """A peer's name; ours are marked."""
    name = text(row, "name") or text(row, "key")
    return f"{name} (ours)" if at(row, "ours") is True else name
