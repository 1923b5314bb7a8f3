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
from streamseg.strict_json import finite

if TYPE_CHECKING:
    from streamseg.benchmark.rows import Row


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
