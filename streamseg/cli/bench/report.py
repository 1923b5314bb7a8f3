"""``streamseg bench report``: one report of one result or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamseg.cli.bench.common import check_outputs
from streamseg.cli.console import say


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT.json...", help="Files that --json wrote.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "--report",
            metavar="FILE.html",
            help="The report; the same as .md is written beside it. Overwrites.",
        ),
    ],
) -> None:
    """Write a report with tables and charts from results.

    Results of several benchmarks, runs and machines go into one report.
    """
    check_outputs(None, out)
    from streamseg.benchmark.report.write import write_report
    from streamseg.benchmark.rows.reading import read_results

    write_report([row for path in results for row in read_results(path)], out)
    say(f"wrote {out} and {out.with_suffix('.md')}")
