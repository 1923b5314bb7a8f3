"""The report of one run or several: one HTML file with charts, and its words and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from streamseg.benchmark.reading import machine, runs_of
from streamseg.benchmark.rows import Row
from streamseg.document import Block, Bullets, Heading, Paragraph, Picture, to_html, to_markdown
from streamseg.errors import MissingExtra
from streamseg.files import write_whole

NOTICE = (
    "Research software, not a medical device. The figures say how fast this software ran on this machine; they "
    "say nothing about use on patients."
)


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
    name = "Benchmark of streamseg on " + " and ".join(machines)
    blocks = compose(runs)
    words = [block for block in blocks if not isinstance(block, Picture)]
    pages = {
        path: to_html(name, blocks),
        path.with_suffix(".md"): to_markdown(name, words),
    }
    for target, page in pages.items():
        write_whole(target, page.encode())


def compose(runs: Sequence[Sequence[Row]]) -> list[Block]:
    """The report's blocks in order."""
    rows = [row for run in runs for row in run]
    return [
        Paragraph(NOTICE),
        Heading("Rows"),
        Bullets([f"{row['bench']}: {row['key']}" for row in rows]),
    ]
