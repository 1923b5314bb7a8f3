"""What every benchmark's command does at its end: table, JSON, report."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamseg.cli.console import say
from streamseg.core.errors import UsageError
from streamseg.core.files import finite

if TYPE_CHECKING:
    from streamseg.benchmark.rows import Row

import atexit
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

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


@contextmanager
def exit_without_hanging_threads() -> Iterator[None]:
    """Where the block leaves threads behind that still work when the program ends, it ends without them.

    Nothing can end a thread that hangs or computes in a library, as after Ctrl-C while a net is compiled. A
    library that comes back from computing while the interpreter goes away finds none, and aborts the process:
    exit code 134 instead of 130, whatever was written before.
    """
    before = set(threading.enumerate())
    code = 0
    try:
        yield
    except KeyboardInterrupt:
        code = 130
        raise
    except BaseException as error:
        code = getattr(error, "exit_code", 1)
        raise
    finally:
        if left := set(threading.enumerate()) - before:
            # What is registered last is called first: before libraries that would wait for their threads.
            atexit.register(_leave, code, left)


def _leave(code: int, left: Collection[threading.Thread]) -> None:
    """End the process with this exit code, unless all of these threads are over by now."""
    if any(thread.is_alive() for thread in left):
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # none, a reader that left, closed
                stream.flush()
        os._exit(code)


def check(json_file: Path | None, report: Path | None) -> None:
    """Raise UsageError for outputs that cannot be written, before anything is measured; MissingExtra for a
    report without what draws it."""
    for option, path in (("--json", json_file), ("--report", report)):
        if path is None or str(path) == "-":
            continue
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder; give a file's name")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
        _try_to_write(option, path)
    if report is not None:
        if report.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--report {report}: a report is one HTML file; end the name in .html")
        from streamseg.benchmark.report.write import check_charts

        check_charts()


def _try_to_write(option: str, path: Path) -> None:
    """A file system has many reasons to refuse. What is there stays as it is; pipes wait for the rows."""
    existed = path.exists()
    if existed and not path.is_file():
        return
    try:
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise UsageError(
            f"{option} {path} cannot be written: {error.strerror}; give a file in a folder of yours"
        ) from error


def write(rows: Sequence[Row], lines: Sequence[str], json_file: Path | None, report: Path | None) -> None:
    """Write the rows, print the lines of the tables, and write the report. Raises SinkError.

    The rows go first: what was measured is not lost where something fails later. The tables go to stdout
    unless the rows do. Raises typer.Exit where the run was stopped before its end.
    """
    from streamseg.benchmark.rows import write_rows

    to_stdout = str(json_file) == "-"
    if to_stdout:
        print(json.dumps([finite(row) for row in rows], allow_nan=False), flush=True)
    elif json_file is not None:
        write_rows(json_file, rows)
        say(f"wrote {json_file} ({len(rows)} rows)")
    print("\n".join(lines), file=sys.stderr if to_stdout else sys.stdout, flush=True)
    if report is not None:
        from streamseg.benchmark.report.write import write_report

        write_report(rows, report)
        say(f"wrote {report} and {report.with_suffix('.md')}")
    if rows and rows[0]["run"].get("stopped"):
        say("stopped before its end; the rows are of what was finished")
        raise typer.Exit(130)


def stop_as_by_ctrl_c() -> None:
    """Let SIGTERM do what Ctrl-C does: benchmarks that keep what is finished then keep it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
