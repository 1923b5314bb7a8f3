"""``streamseg bench``: measures this machine. One file per command, registered here."""

from __future__ import annotations

import typer

from streamseg.cli.bench.compare import compare
from streamseg.cli.bench.nets import nets
from streamseg.cli.bench.peers import peers
from streamseg.cli.bench.pipeline import pipeline
from streamseg.cli.bench.report import report
from streamseg.cli.bench.streams import streams

bench = typer.Typer(
    name="bench",
    help="Measure nets, pipeline and parallel streams; compare results.",
    no_args_is_help=False,
    rich_markup_mode=None,
)
bench.command()(compare)
bench.command()(nets)
bench.command()(peers)
bench.command()(pipeline)
bench.command()(report)
bench.command()(streams)
