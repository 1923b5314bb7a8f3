"""Options, outputs and the end of every command that measures."""

from __future__ import annotations

import inspect
import json
import math
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from streamseg.benchmark.time_limit import QUICK_S, TimeLimit
from streamseg.cli.console import limit_opencv_threads, say
from streamseg.core.errors import UsageError
from streamseg.core.printable import printable

if TYPE_CHECKING:
    from streamseg.benchmark.rows.run import Row

P = ParamSpec("P")
JsonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write the rows to FILE, or to stdout if FILE is -. Overwrites."
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Write a report with charts to one file, and the same as .md next to it. Overwrites.",
    ),
]
QuickOption = Annotated[bool, typer.Option("--quick", help="Quick run with fewer repeats: at most 90 s.")]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="CLIP",
        help="Recorded clip that supplies the frames. Default: a phantom clip, encoded and decoded.",
    ),
]
RoundsOption = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        min=1,
        metavar="N",
        help="Number of rounds, in which all variants take turns. Default: 3 to 7, fewer with --quick.",
    ),
]
WithinOption = Annotated[
    float | None,
    typer.Option(
        "--within",
        min=1.0,
        metavar="SECONDS",
        help="Time limit: there are fewer rounds, and what finds no time is left out. Default: none, "
        f"with --quick {QUICK_S:.0f}.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=256, metavar="N", help="Threads per net. Default: all cores."),
]


@dataclass(frozen=True, slots=True)
class Common:
    """What the common options of a command say."""

    source: str | None
    """A recorded clip; None is a phantom clip."""
    rounds: int | None
    quick: bool
    limit: TimeLimit
    """When the run is to end, from the start of the command."""
    arguments: tuple[str, ...]
    """The command line, without the program's name."""


def measures(
    measure: Callable[Concatenate[Common, P], Sequence[Row]],
) -> Callable[..., None]:
    """Make a command of a function that measures and returns rows.

    The command has the function's options and the common ones. It checks the outputs before anything is
    measured, and then writes rows, tables and report.
    """

    def command(
        *,
        source: SourceOption = None,
        rounds: RoundsOption = None,
        quick: QuickOption = False,
        within: WithinOption = None,
        json_file: JsonFileOption = None,
        report: ReportOption = None,
        **own: Any,
    ) -> None:
        if within is not None and not math.isfinite(within):
            raise UsageError(f"--within takes seconds, received {within:g}; leave it out for no limit")
        limit = TimeLimit(within or (QUICK_S if quick else None))
        check_outputs(json_file, report)
        limit_opencv_threads()
        stop_as_by_ctrl_c()
        common = Common(source, rounds, quick, limit, tuple(sys.argv[1:]))
        write_outputs(measure(common, **own), json_file, report)  # type: ignore[call-arg]

    return _with_options(command, measure)


def _with_options(command: Callable[..., None], measure: Callable[..., object]) -> Callable[..., None]:
    """Give a command the options of both functions: the command line is read from its signature."""
    measure.__annotations__.pop("return", None)  # its name is not imported at run time
    common = inspect.signature(command, eval_str=True).parameters.values()
    own = list(inspect.signature(measure, eval_str=True).parameters.values())[1:]
    options = [
        *(option.replace(kind=option.KEYWORD_ONLY) for option in own),
        *(option for option in common if option.kind is option.KEYWORD_ONLY),
    ]
    named = wraps(measure)(command)
    named.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    named.__annotations__ = {option.name: option.annotation for option in options}
    return named


def listed(option: str, given: Sequence[str] | None, choices: str) -> tuple[str, ...]:
    """Parts of an option that may be repeated or hold several with commas, in their order; none by default.

    Raises UsageError, which names the choices, for a part that is empty or comes twice.
    """
    parts = tuple(part.strip() for text in given or () for part in text.split(","))
    wrong = next((part for at, part in enumerate(parts) if not part or part in parts[:at]), None)
    if wrong is not None:
        what = f"names {wrong!r} twice" if wrong else "has an empty part"
        raise UsageError(f"{option} {what}, received {','.join(given or ())!r}; give some of {choices}")
    return parts


def check_outputs(json_file: Path | None, report: Path | None) -> None:
    """Check the outputs before anything is measured.

    Raises UsageError for those that cannot be written, and MissingExtra without what draws a report's charts.
    """
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
    """Raise UsageError if the file cannot be opened. What is there stays as it is; a pipe is not opened."""
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
            f"{option} {path} cannot be written: {error.strerror}; choose a folder that you can write to"
        ) from error


def write_outputs(rows: Sequence[Row], json_file: Path | None, report: Path | None) -> None:
    """Write the rows, print the tables, and write the report. Raises SinkError.

    The rows go first: what was measured is not lost if something fails later. The tables go to stdout unless
    the rows do. Raises typer.Exit if the run was stopped before its end.
    """
    from streamseg.benchmark.rows.run import write_rows
    from streamseg.benchmark.terminal import lines

    to_stdout = str(json_file) == "-"
    if to_stdout:
        print(json.dumps([row.to_json() for row in rows], allow_nan=False), flush=True)
    elif json_file is not None:
        write_rows(json_file, rows)
        say(f"wrote {json_file} ({len(rows)} rows)")
    print(printable("\n".join(lines(rows))), file=sys.stderr if to_stdout else sys.stdout, flush=True)
    if report is not None:
        from streamseg.benchmark.report.write import write_report

        write_report(rows, report)
        say(f"wrote {report} and {report.with_suffix('.md')}")
    if rows and rows[0].run.stopped:
        say("stopped before its end; the rows are of what was finished")
        raise typer.Exit(130)


def stop_as_by_ctrl_c() -> None:
    """Handle SIGTERM like Ctrl-C, so that benchmarks keep what is finished."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
