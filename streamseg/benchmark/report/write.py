"""The report of one run or several: one HTML file with charts, and its words and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from streamseg.benchmark.report.origin import provenance_tables, remarks
from streamseg.benchmark.report.reading import (
    budget_of,
    by_net,
    engine_of,
    machine,
    mapping,
    of_bench,
    run_name,
    runs_of,
    text,
)
from streamseg.benchmark.report.tables import (
    net_tables,
    peers_tables,
    pipeline_tables,
    reasons,
    streams_tables,
)
from streamseg.benchmark.report.words import in_short, troubles
from streamseg.benchmark.rows import BENCHES, Row
from streamseg.core.errors import MissingExtra
from streamseg.core.files import write_whole
from streamseg.reporting.document import Block, Bullets, Heading, Paragraph, Picture, to_html, to_markdown

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
        "slower for all. Engine: calls of the engine alone, one behind another. End to end: from the encoded "
        "file through decoding and segmentation to the drawn outline. x eager: how many times as fast as "
        "torch eager FP32 as trained, within a round (median, least and most). Of the limit: against the "
        "fastest arithmetic in that precision that was found on the machine in the same rounds. No call was "
        "left out."
    ),
    "pipeline": (
        "Replay takes every frame of a file as fast as it can; live takes the newest of what comes at a pace "
        "and drops what it cannot do. Frames are counted where they are offered and where they come out."
    ),
    "streams": (
        "Each stream has its own loop and its own display; all share the machine. The budget is held where "
        "in every stream at least 99 % of the outlines were displayed within it and none was left without; "
        "every frame, where no stream lost more than 1 %."
    ),
    "peers": (
        "The same frames, the same threads, in turn in every round. Peers that are faster than ours stand in "
        "the table like the others. The ratio is to ours of the same kind and precision, within a round "
        "(median, least and most)."
    ),
}
UNTOLD = "The rows do not say how they were measured."


def check_charts() -> None:
    """Raise MissingExtra where what draws the charts is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("a report with charts", "matplotlib", "bench")


def write_report(rows: Sequence[Row], path: Path) -> None:
    """Write the rows' report: ``path`` (.html), which needs no other file, and the same without its charts
    beside it, as .md.

    Rows may be of several benchmarks and of several runs; the same rows give the same bytes. Raises
    MissingExtra without what draws charts, SinkError.
    """
    check_charts()
    runs = runs_of(rows)
    machines = dict.fromkeys(machine(run[0]["run"]) for run in runs)
    title = "Benchmark of streamseg on " + " and on ".join(machines)
    blocks = compose(runs)
    words = [block for block in blocks if not isinstance(block, Picture)]
    html, markdown = to_html(title, blocks), to_markdown(title, words)
    write_whole(path, html.encode())
    write_whole(path.with_suffix(".md"), markdown.encode())


def compose(runs: Sequence[Sequence[Row]]) -> list[Block]:
    """The report's blocks in order: what was found, what is wrong with it, then the figures."""
    blocks: list[Block] = [Paragraph(NOTICE)]
    if against := remarks(runs):
        blocks += [Heading("Not for publication"), Bullets(against)]
    if found := in_short(runs):
        blocks += [Heading("In short"), Bullets(found)]
    wrong = troubles(runs)
    blocks.append(Heading("What is wrong or missing"))
    blocks.append(Bullets(wrong) if wrong else Paragraph("No row has a note, and nothing is absent."))
    for bench in dict.fromkeys((*BENCHES, *(text(row, "bench") for rows in runs for row in rows))):
        blocks += section(bench, runs)
    return [*blocks, Heading("Where it is from"), *provenance_tables(runs)]


def section(bench: str, runs: Sequence[Sequence[Row]]) -> list[Block]:
    """One benchmark's tables and charts, run by run; empty where none has rows of it."""
    blocks: list[Block] = []
    for index, rows in enumerate(runs):
        own = of_bench(rows, bench)
        if not own:
            continue
        if len(runs) > 1:
            run = own[0].get("run")
            when = text(run, "date") or text(run, "file")
            blocks.append(Heading(f"{run_name(index).capitalize()}: {machine(run)}, {when}", 3))
        blocks += contents(bench, own, f"run{index + 1}-{bench}")
    if not blocks:
        return []
    told = any(mapping(row, "run", "regime") for rows in runs for row in of_bench(rows, bench))
    return [
        Heading(TITLES.get(bench, bench)),
        Paragraph(WORDS.get(bench, "Rows of a kind unknown here.") if told else UNTOLD),
        *blocks,
    ]


def contents(bench: str, rows: Sequence[Row], stem: str) -> list[Block]:
    """Tables and charts of one benchmark of one run."""
    from streamseg.benchmark.report import live_charts, nets_charts

    match bench:
        case "nets":
            blocks: list[Block] = [*nets_charts.overview(rows, stem)]
            for net, own in by_net(rows):
                blocks += net_tables(net, own)
                blocks += nets_charts.histograms(own, net, f"{stem}-{text(own[0], 'net')}")
            return blocks
        case "pipeline":
            return [*engines(rows), *pipeline_tables(rows), *live_charts.pipeline_pictures(rows, stem)]
        case "streams":
            return [*engines(rows), *streams_tables(rows), *live_charts.streams_pictures(rows, stem)]
        case "peers":
            why = reasons(rows)
            drawn: list[Block] = [*nets_charts.peers_pictures(rows, stem), *peers_tables(rows)]
            return [*drawn, Paragraph("Why, where it is known:"), Bullets(why)] if why else drawn
    return [Bullets([text(row, "key") for row in rows])]


def engines(rows: Sequence[Row]) -> list[Block]:
    """The engine that a benchmark ran, where its rows say so, and the age budget."""
    name = engine_of(rows)
    return [Paragraph(f"Engine: {name}; age budget: {budget_of(rows[0].get('run')):g} ms.")] if name else []
