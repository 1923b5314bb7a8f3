"""Options that the benchmarks have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from streamseg.core.errors import UsageError

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
    int | None,
    typer.Option("--threads", min=1, max=256, metavar="N", help="Threads of a net. Default: every core."),
]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def listed(option: str, given: Sequence[str] | None, choices: str) -> tuple[str, ...]:
    """Parts of an option that was given several times, or with commas between, in their order.

    Blanks around a part do not count; an option that was not given has no parts. Raises UsageError, with
    the words for what can be chosen, for a part that is empty or comes twice.
    """
    parts = tuple(part.strip() for text in given or () for part in text.split(","))
    wrong = next((part for at, part in enumerate(parts) if not part or part in parts[:at]), None)
    if wrong is not None:
        what = f"names {wrong!r} twice" if wrong else "has an empty part"
        raise UsageError(f"{option} {what}, received {','.join(given or ())!r}; give some of {choices}")
    return parts
