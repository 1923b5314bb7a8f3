"""Tables of benchmark results: each column is declared once, for the terminal, the report and the README."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamseg.benchmark.frame_trace import in_order
from streamseg.benchmark.rows.nets import NetRow, Pace
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.run import Latency, Row, Spread
from streamseg.benchmark.rows.streams import StreamsRow
from streamseg.reporting.document import Table
from streamseg.reporting.formatting import UNKNOWN, count, figure, megabytes, percent

TERMINAL, REPORT, README, SHORT = "terminal", "report", "readme", "short"
"""Places of tables; the last is the README's few lines."""
EVERYWHERE = (TERMINAL, REPORT, README, SHORT)
TITLES = {
    "improved_unet": "improved U-Net",
    "lite_unet": "lite U-Net",
    "unet": "U-Net",
    "segnet": "SegNet",
    "eager": "torch eager",
    "openvino": "OpenVINO",
    "onnx": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "compiled": "torch.compile",
}
"""Human-readable names of nets and back ends."""
KINDS = {
    "runtime": ("The same weights in other runtimes", "same weights"),
    "pipeline": ("From the file to the drawn outline, by other programs", "file to drawn outline"),
    "net": ("Other nets of this kind at the same input", "other nets"),
}
"""Kinds of peers in their order, with a title and a short one."""

T = TypeVar("T")
R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column of a table."""

    title: str
    cell: Callable[[T], str]
    in_: tuple[str, ...] = (TERMINAL, REPORT, README)


def make_table(
    caption: str,
    names: str,
    rows: Sequence[T],
    name: Callable[[T], str],
    columns: Iterable[Column[T]],
    *,
    place: str = REPORT,
) -> Table:
    """A line per row, named in the first column, with the columns of a place in which anything is known."""
    cells = {column: [column.cell(row) for row in rows] for column in columns if place in column.in_}
    known = {
        column: found for column, found in cells.items() if any(cell not in (UNKNOWN, "") for cell in found)
    }
    return Table(
        caption,
        (names, *(column.title for column in known)),
        [(name(row), *(found[line] for found in known.values())) for line, row in enumerate(rows)],
    )


def exact(value: float | None) -> str:
    """A share of 1 with three decimals."""
    return UNKNOWN if value is None else f"{value:.3f}"


def quantiles(found: Latency) -> str:
    """``p50 / p99``."""
    return UNKNOWN if found.p50 is None else f"{figure(found.p50)} / {figure(found.p99)}"


def spread(found: Spread) -> str:
    """``median (min to max)``."""
    if found.min is None or found.max is None or found.min == found.max:
        return figure(found.median)
    return f"{figure(found.median)} ({figure(found.min)} to {figure(found.max)})"


def shares(found: Mapping[str, float]) -> str:
    """``int8 96 %, fp32 4 %``: the largest first."""
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {percent(share)}" for name, share in ordered) or UNKNOWN


def yes_or_no(value: bool | None) -> str:
    """A truth value as a word."""
    return UNKNOWN if value is None else "yes" if value else "no"


def title(name: str) -> str:
    """Human-readable name of a net or a back end."""
    return TITLES.get(name, name)


def variant(row: NetRow) -> str:
    """How a net was run: ``OpenVINO INT8``; ``torch eager FP32, as trained``."""
    words = f"{title(row.backend)} {row.precision.upper()}"
    if row.backend != "eager" or row.folded is None:
        return words.strip()
    return f"{words}, folded" if row.folded else f"{words}, as trained"


def size(row: NetRow) -> str:
    """``192x224``; ``192x224, batch 8``."""
    if row.height is None and row.width is None:
        return "an unknown size"
    batch = "" if row.batch in (None, 1) else f", batch {count(row.batch)}"
    return f"{count(row.height)}x{count(row.width)}{batch}"


def by_net(rows: Iterable[NetRow]) -> list[tuple[str, list[NetRow]]]:
    """The rows net by net, after the net's title, which says so if all its weights are random."""
    found: dict[str, list[NetRow]] = {}
    for row in rows:
        found.setdefault(row.net, []).append(row)
    random = {net: all(row.trained is False for row in own) for net, own in found.items()}
    return [(title(net) + " (random weights)" * random[net], own) for net, own in found.items()]


def by_size(rows: Iterable[NetRow]) -> list[tuple[str, list[NetRow]]]:
    """The rows size by size."""
    found: dict[str, list[NetRow]] = {}
    for row in rows:
        found.setdefault(size(row), []).append(row)
    return list(found.items())


def by_kind(rows: Sequence[PeerRow]) -> list[tuple[str, list[PeerRow]]]:
    """The rows kind by kind, the fastest first; unknown kinds come last."""
    kinds = dict.fromkeys((*KINDS, *(row.kind for row in rows)))
    found = [(kind, [row for row in rows if row.kind == kind]) for kind in kinds]
    return [(kind, sorted(own, key=lambda row: -(row.fps or 0.0))) for kind, own in found if own]


def kind_title(kind: str, *, short: bool = False) -> str:
    """Title of a kind of peers."""
    return KINDS[kind][short] if kind in KINDS else kind or "other"


def peer(row: PeerRow) -> str:
    """Name of a peer; ours are marked."""
    name = row.name or row.key
    return f"{name} (ours)" if row.ours else name


def reasons(rows: Iterable[PeerRow]) -> list[str]:
    """Why peers are faster or slower, as far as it is known."""
    return [f"{row.name}: {row.why}" for row in rows if row.why]


def engines_of(rows: Iterable[PipelineRow] | Iterable[StreamsRow]) -> str:
    """The engine that was measured, several with a comma; empty if unknown."""
    return ", ".join(dict.fromkeys(row.engine.name for row in rows if row.engine.name))


def _each_fps(row: PipelineRow | StreamsRow) -> float | None:
    return row.each_fps if isinstance(row, StreamsRow) else row.fps


def _least_to_most(row: StreamsRow) -> str:
    found = [each.processed for each in row.per_stream if each.processed is not None]
    return f"{count(min(found))} to {count(max(found))}" if found else UNKNOWN


def _delivered(row: PeerRow) -> str:
    """Frames that came out of a run over a clip."""
    return f"{count(row.delivered)} of {count(row.frames)}" if row.kind == "pipeline" else UNKNOWN


def _known(row: PeerRow) -> str:
    """What a pipeline does; of others the cause of their speed."""
    return (row.settings if row.kind == "pipeline" else row.why) or UNKNOWN


NET_SPEED: Sequence[Column[NetRow]] = (
    Column("variant", lambda row: variant(row).removeprefix("torch "), (README, SHORT)),
    Column("engine, frames/s", lambda row: figure(row.engine_fps), EVERYWHERE),
    Column("end to end", lambda row: figure(row.end_to_end_fps), (TERMINAL, README)),
    Column("end to end, frames/s", lambda row: figure(row.end_to_end_fps), (REPORT,)),
    Column("file to outline", lambda row: figure(row.end_to_end_fps), (SHORT,)),
    Column("p50 / p99, ms", lambda row: quantiles(row.latency_ms), (TERMINAL, README, SHORT)),
    Column("p50, ms", lambda row: figure(row.latency_ms.p50), (REPORT,)),
    Column("p95", lambda row: figure(row.latency_ms.p95), (REPORT,)),
    Column("p99", lambda row: figure(row.latency_ms.p99), (REPORT,)),
    Column("max", lambda row: figure(row.latency_ms.max), (REPORT,)),
    Column("calls", lambda row: count(row.calls), (REPORT,)),
    Column("x eager", lambda row: figure(row.ratio_to_eager.median), (TERMINAL, README, SHORT)),
    Column("x eager", lambda row: spread(row.ratio_to_eager), (REPORT,)),
    Column("GFLOP/s", lambda row: figure(row.gflop_per_s), (REPORT,)),
    Column("of the limit", lambda row: percent(row.limit_share)),
)
NET_CONTENT: Sequence[Column[NetRow]] = (
    Column("found to compute in", lambda row: shares(row.precision_found), (TERMINAL, REPORT)),
    Column("Dice", lambda row: exact(row.dice), EVERYWHERE),
    Column("like FP32", lambda row: exact(row.mask_agreement), (TERMINAL, README)),
    Column("masks like FP32's, Dice", lambda row: exact(row.mask_agreement), (REPORT,)),
    Column("probabilities off FP32's by", lambda row: figure(row.probability_difference), (REPORT,)),
    Column("engine from", lambda row: row.engine.from_ or UNKNOWN, (REPORT,)),
    Column("model, MB", lambda row: megabytes(row.model_bytes), (TERMINAL, REPORT)),
    Column("peak, MB", lambda row: megabytes(row.peak_host_bytes), (TERMINAL, REPORT)),
    Column("peak on the GPU, MB", lambda row: megabytes(row.peak_gpu_bytes), (REPORT,)),
    Column("warm start, s", lambda row: figure(row.start_s.warm), (TERMINAL, REPORT)),
    Column("built in, s", lambda row: figure(row.start_s.build), (REPORT,)),
    Column("cold start, s", lambda row: figure(row.start_s.cold), (REPORT,)),
    Column("J per frame", lambda row: figure(row.energy_j_per_frame), (REPORT,)),
)
NET_PACES: Sequence[Column[tuple[NetRow, Pace]]] = (
    Column("frames/s offered", lambda pair: count(pair[1].fps)),
    Column("offered", lambda pair: count(pair[1].offered)),
    Column("processed", lambda pair: count(pair[1].processed)),
    Column("dropped", lambda pair: count(pair[1].dropped)),
    Column("age p50, ms", lambda pair: figure(pair[1].age_ms.p50)),
    Column("p99", lambda pair: figure(pair[1].age_ms.p99)),
    Column("max", lambda pair: figure(pair[1].age_ms.max)),
    Column("within the budget", lambda pair: percent(pair[1].within_budget, 1)),
)
PIPELINE: Sequence[Column[PipelineRow]] = (
    Column("pace, frames/s", lambda row: count(row.source_fps)),
    Column("offered", lambda row: count(row.offered)),
    Column("processed", lambda row: count(row.processed)),
    Column("dropped", lambda row: count(row.dropped)),
    Column("frames/s", lambda row: figure(row.fps)),
    Column("age p50 / p99, ms", lambda row: quantiles(row.age_ms), (README,)),
    Column("age p50, ms", lambda row: figure(row.age_ms.p50), (TERMINAL, REPORT)),
    Column("p95", lambda row: figure(row.age_ms.p95), (TERMINAL, REPORT)),
    Column("p99", lambda row: figure(row.age_ms.p99), (TERMINAL, REPORT)),
    Column("max", lambda row: figure(row.age_ms.max), (TERMINAL, REPORT)),
    Column("within the budget", lambda row: percent(row.within_budget, 1)),
)
STREAMS: Sequence[Column[StreamsRow]] = (
    Column("frames/s offered to each", lambda row: count(row.source_fps), (REPORT,)),
    Column("offered", lambda row: count(row.offered), (REPORT,)),
    Column("processed", lambda row: count(row.processed), (REPORT,)),
    Column("dropped", lambda row: count(row.dropped), (TERMINAL, REPORT)),
    Column("processed, frames/s", lambda row: figure(row.processed_fps), (TERMINAL, REPORT)),
    Column("of the engine alone", lambda row: percent(row.engine_share), (TERMINAL, REPORT)),
    Column("each, frames/s", lambda row: figure(row.each_fps), (TERMINAL, README)),
    Column("of each stream", lambda row: figure(row.each_fps), (REPORT,)),
    Column("age p50 / p99, ms", lambda row: quantiles(row.age_ms), (TERMINAL, README)),
    Column("age p50, ms", lambda row: figure(row.age_ms.p50), (REPORT,)),
    Column("p99", lambda row: figure(row.age_ms.p99), (REPORT,)),
    Column("on the page, ms", lambda row: quantiles(row.page_age_ms), (TERMINAL, REPORT)),
    Column("in the budget, worst", lambda row: percent(row.within_budget, 1), (TERMINAL, README)),
    Column("within the budget, worst stream", lambda row: percent(row.within_budget, 1), (REPORT,)),
    Column("least to most processed by a stream", _least_to_most, (REPORT,)),
    Column("processor", lambda row: percent(row.processor_share)),
    Column("frames per call", lambda row: figure(row.batch_fill), (TERMINAL, REPORT)),
    Column("holds budget", lambda row: yes_or_no(row.holds_budget), (TERMINAL, README)),
    Column("holds the budget", lambda row: yes_or_no(row.holds_budget), (REPORT,)),
    Column("every frame", lambda row: yes_or_no(row.holds_every_frame)),
)
LIVE: Sequence[Column[PipelineRow | StreamsRow]] = (
    Column("frames/s, each", lambda row: figure(_each_fps(row)), (SHORT,)),
    Column("dropped", lambda row: count(row.dropped), (SHORT,)),
    Column("age p50 / p99, ms", lambda row: quantiles(row.age_ms), (SHORT,)),
    Column("within the budget", lambda row: percent(row.within_budget, 1), (SHORT,)),
)
PEERS: Sequence[Column[PeerRow]] = (
    Column("what", lambda row: f"**{peer(row)}**" if row.ours else peer(row), (README,)),
    Column("precision", lambda row: row.precision or UNKNOWN),
    Column("frames/s", lambda row: figure(row.fps)),
    Column("p50 / p99, ms", lambda row: quantiles(row.latency_ms), (TERMINAL, README)),
    Column("p50, ms", lambda row: figure(row.latency_ms.p50), (REPORT,)),
    Column("p99", lambda row: figure(row.latency_ms.p99), (REPORT,)),
    Column("frames", _delivered, (TERMINAL,)),
    Column("processor, ms", lambda row: figure(row.processor_ms), (TERMINAL,)),
    Column("ours is x times as fast", lambda row: "" if row.ours else spread(row.ratio), (TERMINAL, README)),
    Column("ours is x times as fast", lambda row: spread(row.ratio), (REPORT,)),
    Column("probabilities off by at most", lambda row: figure(row.difference), (REPORT,)),
    Column("masks alike, Dice", lambda row: exact(row.mask_dice), (REPORT,)),
    Column("GFLOP", lambda row: figure(row.gflop), (REPORT,)),
    Column("ready after, s", lambda row: figure(row.ready_s), (REPORT,)),
    Column("version", lambda row: row.version or UNKNOWN, (REPORT,)),
    Column("what is known of it", _known, (TERMINAL,)),
)


def net_tables(net: str, rows: Sequence[NetRow]) -> list[Table]:
    """The report's tables of one net: its speed, what it computes, and live runs at fixed paces."""
    label = net_label(rows)
    paces = [(row, pace) for row in rows for pace in row.paced]
    found = [
        make_table(f"{net}: speed", "variant", rows, label, NET_SPEED),
        make_table(f"{net}: what it computes, and what it takes", "variant", rows, label, NET_CONTENT),
        make_table(f"{net}: live at a pace", "variant", paces, lambda pair: label(pair[0]), NET_PACES),
    ]
    return [table for table in found if len(table.header) > 1 or table is found[0]]


def net_label(rows: Sequence[NetRow]) -> Callable[[NetRow], str]:
    """Names a net's variants, with their size if there are several."""
    several = len({size(row) for row in rows}) > 1
    return lambda row: f"{variant(row)}, {size(row)}" if several else variant(row)


def pipeline_tables(rows: Sequence[PipelineRow], place: str = REPORT) -> list[Table]:
    """What became of the frames, and their stages."""
    names = in_order({name for row in rows for name in row.stages_ms})
    stages: list[Column[PipelineRow]] = [Column(name, _stage(name)) for name in names]
    return [
        make_table("Frames and their age", "mode", rows, lambda row: row.key, PIPELINE, place=place),
        make_table("Stages, milliseconds: p50 / p99", "mode", rows, lambda row: row.key, stages, place=place),
    ]


def _stage(name: str) -> Callable[[PipelineRow], str]:
    return lambda row: quantiles(row.stages_ms.get(name, Latency()))


def streams_table(rows: Sequence[StreamsRow], place: str = REPORT) -> Table:
    """What streams side by side cost, a line for each number of them."""
    return make_table(
        "Streams side by side", "streams", rows, lambda row: count(row.streams), STREAMS, place=place
    )


def peers_tables(rows: Sequence[PeerRow], place: str = REPORT) -> list[Table]:
    """A table of each kind of peers, the fastest first."""
    return [
        make_table(kind_title(kind), "what", own, peer, PEERS, place=place) for kind, own in by_kind(rows)
    ]
