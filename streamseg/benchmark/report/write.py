"""The report of one run or several: an HTML file with charts, and its text and tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.reading import CLASSES
from streamseg.benchmark.rows.run import Row, number
from streamseg.benchmark.rows.streams import StreamsRow
from streamseg.benchmark.tables import (
    by_net,
    engines_of,
    net_tables,
    peers_tables,
    pipeline_tables,
    reasons,
    streams_table,
)
from streamseg.core.errors import MissingExtra
from streamseg.core.files import write_whole
from streamseg.reporting.document import (
    Block,
    Bullets,
    Heading,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)
from streamseg.reporting.formatting import UNKNOWN, count, figure, percent

Runs = Sequence[Sequence[Row]]
NOTICE = (
    "Research software, not a medical device. The figures say how fast this software ran on this machine; "
    "they say nothing about use on patients."
)
TITLES = {
    "nets": "The nets",
    "pipeline": "The pipeline: frames and their age",
    "streams": "Streams side by side",
    "peers": "Other programs, side by side in one run",
}
WORDS = {
    "nets": (
        "Frames of the clip, every variant of a net in turn in every round, so that a slower minute is "
        "slower for all. Engine: calls of the engine alone, one after another. End to end: from the encoded "
        "file through decoding and segmentation to the drawn outline. x eager: how many times as fast as "
        "torch eager FP32 as trained, within a round (median, least and most). Of the limit: against the "
        "fastest arithmetic in that precision that was measured on the machine in the same rounds. No call "
        "was left out."
    ),
    "pipeline": (
        "Replay takes every frame of a file as fast as it can; live takes the newest frame of a source that "
        "has its own pace, and drops the others. Frames are counted where they are offered and where they "
        "come out."
    ),
    "streams": (
        "Each stream has its own loop and its own tile on the page, which a client reads (earlier results: "
        "its own window); all share the machine. The budget is held if every stream displayed at least "
        "99 % of its outlines within it and none was left without; every "
        "frame is, if no stream lost more than 1 %."
    ),
    "peers": (
        "The same frames, the same threads, in turn in every round. Peers that are faster than ours stand in "
        "the table like the others. The ratio is to ours of the same kind and precision, within a round "
        "(median, least and most)."
    ),
}
UNSTATED = "The rows do not say how they were measured."


def check_charts() -> None:
    """Raise MissingExtra if the library that draws the charts is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("a report with charts", "matplotlib", "bench")


def write_report(rows: Sequence[Row], path: Path) -> None:
    """Write the rows' report: ``path`` (.html), which needs no other file, and the same without charts as
    .md beside it.

    Rows may be of several benchmarks and runs; the same rows give the same bytes. Raises MissingExtra without
    the library that draws charts, and SinkError.
    """
    check_charts()
    runs = runs_of(rows)
    title = "Benchmark of streamseg on " + " and on ".join(dict.fromkeys(run[0].run.hardware for run in runs))
    blocks = compose(runs)
    html = to_html(title, blocks)
    markdown = to_markdown(title, [block for block in blocks if not isinstance(block, Picture)])
    write_whole(path, html.encode())
    write_whole(path.with_suffix(".md"), markdown.encode())


def runs_of(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows by their run, in order; a row that is there twice counts once."""
    found: list[list[Row]] = []
    for row in rows:
        same = next((run for run in found if run[0].run == row.run), None)
        if same is None:
            found.append([row])
        elif row not in same:
            same.append(row)
    return found


def compose(runs: Runs) -> list[Block]:
    """The report's blocks in order: what is wrong with the runs, then the figures, then their origin."""
    blocks: list[Block] = [Paragraph(NOTICE)]
    if against := [line for which, run in named_runs(runs) for line in prefixed(which, run[0].run.remarks)]:
        blocks += [Heading("Not for publication"), Bullets(against)]
    wrong = troubles(runs)
    blocks.append(Heading("What is wrong or missing"))
    blocks.append(Bullets(wrong) if wrong else Paragraph("No row has a note, and nothing is absent."))
    for bench in dict.fromkeys((*CLASSES, *(row.bench for rows in runs for row in rows))):
        blocks += section(bench, runs)
    return [*blocks, Heading("Where it is from"), *provenance_tables(runs)]


def named_runs(runs: Runs) -> list[tuple[str, Sequence[Row]]]:
    """Each run with its name; a single one has none."""
    return [(f"run {turn}" if len(runs) > 1 else "", run) for turn, run in enumerate(runs, 1)]


def prefixed(which: str, lines: Iterable[str], mark: str = ": ") -> list[str]:
    """Lines that begin with the name of the run, if it has one."""
    return [f"{which}{mark if which else ''}{line}" for line in lines]


def troubles(runs: Runs) -> list[str]:
    """Every row's notes, and the reasons for what is absent."""
    found: list[str] = []
    for which, rows in named_runs(runs):
        lines = [f"{row.bench}, {row.key}: {note}" for row in rows for note in row.notes]
        lines += [f"absent: {key}: {reason}" for key, reason in rows[0].run.absent.items()]
        found += prefixed(which, lines, ", ")
    return found


def section(bench: str, runs: Runs) -> list[Block]:
    """One benchmark's tables and charts, run by run; empty if none has rows of it."""
    blocks: list[Block] = []
    shown = [
        (which, turn, own)
        for turn, (which, rows) in enumerate(named_runs(runs), 1)
        if (own := [row for row in rows if row.bench == bench])
    ]
    for which, turn, own in shown:
        if which:
            run = own[0].run
            blocks.append(Heading(f"{which.capitalize()}: {run.hardware}, {run.date or run.file}", 3))
        blocks += contents(own, f"run{turn}-{bench}")
    if not blocks:
        return []
    stated = any(own[0].run.regime for _, _, own in shown)
    words = WORDS.get(bench, "Rows of a kind that is not known here.") if stated else UNSTATED
    return [Heading(TITLES.get(bench, bench)), Paragraph(words), *blocks]


def contents(rows: Sequence[Row], stem: str) -> list[Block]:
    """Tables and charts of one benchmark of one run; ``stem`` begins the charts' names."""
    from streamseg.benchmark.report import live_charts, nets_charts

    nets = [row for row in rows if isinstance(row, NetRow)]
    if nets:
        blocks: list[Block] = [*nets_charts.overview(nets, stem)]
        for net, own in by_net(nets):
            blocks += net_tables(net, own)
            blocks += nets_charts.histograms(own, net, f"{stem}-{own[0].net}")
        return blocks
    if pipeline := [row for row in rows if isinstance(row, PipelineRow)]:
        tables = pipeline_tables(pipeline)
        return [*engine(pipeline), *tables, *live_charts.pipeline_charts(pipeline, stem)]
    if streams := [row for row in rows if isinstance(row, StreamsRow)]:
        return [*engine(streams), streams_table(streams), *live_charts.streams_charts(streams, stem)]
    if peers := [row for row in rows if isinstance(row, PeerRow)]:
        why = reasons(peers)
        known: list[Block] = [Paragraph("Why, as far as it is known:"), Bullets(why)] if why else []
        return [*nets_charts.peers_charts(peers, stem), *peers_tables(peers), *known]
    return [Bullets([row.key for row in rows])]


def engine(rows: Sequence[PipelineRow] | Sequence[StreamsRow]) -> list[Block]:
    """The engine that was measured, if known, and the age budget."""
    name = engines_of(rows)
    return [Paragraph(f"Engine: {name}; age budget: {rows[0].run.budget_ms:g} ms.")] if name else []


def provenance_tables(runs: Runs) -> list[Table]:
    """Where the runs are from: what they have in common, and a column for each with what differs."""
    columns = [origin(rows) for rows in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    values = {name: [column.get(name, UNKNOWN) for column in columns] for name in names}
    own = {name: found for name, found in values.items() if len(set(found)) > 1}
    common = [(name, found[0]) for name, found in values.items() if name not in own]
    tables = [Table("This run" if len(runs) == 1 else "All runs", ("", ""), common, numbers=False)]
    if own:
        head = ("", *(which for which, _ in named_runs(runs)))
        rows = [(name, *found) for name, found in own.items()]
        tables.insert(0, Table("Each run", head, rows, numbers=False))
    return tables


def origin(rows: Sequence[Row]) -> dict[str, str]:
    """Everything that a run says of itself."""
    run = rows[0].run
    found = {
        "command": run.command,
        "file": run.file,
        "benchmarks": ", ".join(dict.fromkeys(row.bench for row in rows)),
        "started": run.started or run.date,
        "commit": run.commit,
        "machine": run.hardware,
        "threads": count(run.threads),
        "took": "" if run.seconds is None else f"{figure(run.seconds)} s",
        "of the processor, others took": percent(run.others_share, 1),
        "source": flat(run.source or {}),
        "how": flat(run.regime),
    }
    for kind, limit in run.limits.items():
        unit = "GB/s" if kind == "copy" else "GFLOP/s"
        found[f"limit: {kind}"] = f"{figure(limit.giga_per_s)} {unit}, {limit.kernel}"
    shown = ("commit", "processor", "gpu", "cores")
    found |= dict(named(name, value) for name, value in run.machine.items() if name not in shown)
    return {name: words for name, words in found.items() if words not in ("", UNKNOWN)}


def named(name: str, value: object) -> tuple[str, str]:
    """A JSON value's name and words; bytes become MB."""
    if name.endswith("_bytes") and (size := number(value)) is not None:
        return name.removesuffix("_bytes").replace("_", " "), f"{count(size / 1e6)} MB"
    words = "power and clocks" if name == "power" else name.replace("_", " ")
    return words, "" if value is None else flat(value)


def flat(value: object) -> str:
    """A JSON value as words: ``rounds 5, block seconds 1``."""
    if isinstance(value, Mapping):
        known = [named(str(name), item) for name, item in value.items() if item is not None]
        return ", ".join(f"{name} {words}" for name, words in known if words)
    if isinstance(value, list | tuple):
        return " ".join(flat(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
