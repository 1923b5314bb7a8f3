"""Options that the benchmarks have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

JsonFileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the rows there; - is stdout. Overwrites."),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Write a report with charts in one file, and the same as .md beside it. Overwrites.",
    ),
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="A first look in at most 90 s on two cores: fewer repeats.")
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="CLIP",
        help="Recorded clip whose frames are used. Default: a phantom clip, encoded and decoded.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="Threads of a net. Default: every core.")
]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
