"""``streamseg bench compare``: what got slower or worse, between two results or two commits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.bench import common as outputs
from streamseg.cli.console import say
from streamseg.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from streamseg.benchmark.compare.bench import Comparison


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [-- OPTION]",
            help="Two files that --json of the other commands wrote. With --commits two revisions, and "
            "options of 'bench nets' behind --.",
            show_default=False,
        ),
    ],
    commits: Annotated[
        bool, typer.Option("--commits", help="Run two commits of this checkout in turn, and compare those.")
    ] = False,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, metavar="N", help="With --commits: turns. Default: 3.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit code 1 where anything is slower, worse, or not measured any more; unclear is 0.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the comparison there; - is stdout. Overwrites."),
    ] = None,
) -> None:
    """Say what got slower or worse from A to B.

    A figure with rounds is slower where the interval of its change, from the spread of both runs' rounds, is
    all on that side, and the change is more than runs of the same program differ by: 10 %, or 5 % both with
    and without the machine's own change set off, where both measured its limits; 3 % between commits, which
    run in turn. What may be chance is unclear. Fewer than three rounds tell of 25 %, on a busy machine of
    100 %; rows without rounds are compared by their values: 10 %, p95 and p99 25 %. Dice
    is worse by more than 0.005, the share computed in the precision by 0.01.

    Exit code: 0 once compared, whatever was found; with --strict 1 where anything is slower, worse or not
    measured any more; 2 for files that are no results and wrong calls.

    With --commits both are checked out in a temporary folder and 'bench nets --quick' runs with each, in
    turn, by default for one net on OpenVINO.
    """
    outputs.check(json_file, None)
    found = _commits(what, rounds) if commits else _files(what, rounds)
    _write(found, json_file)
    if strict and found.worse:
        raise typer.Exit(1)


def _files(what: list[str], rounds: int | None) -> Comparison:
    if len(what) != 2 or rounds is not None:
        given = f"{len(what)} files" if rounds is None else "--rounds"
        raise UsageError(f"two results are compared, given were {given}; two commits are with --commits")
    from streamseg.benchmark.bare import read_results
    from streamseg.benchmark.compare.bench import compare as compare_rows

    try:
        a, b = (read_results(Path(name)) for name in what)
        return compare_rows(a, b)
    except DataError as error:  # exit code 1 says that something is worse
        raise UsageError(str(error)) from error


def _commits(what: list[str], rounds: int | None) -> Comparison:
    if len(what) < 2:
        raise UsageError("--commits compares two revisions, given was one")
    from streamseg.benchmark.compare.commits import ARGUMENTS, compare_commits

    first, second, *arguments = what
    if "--json" in arguments or "--report" in arguments:
        raise UsageError(
            "behind -- come options of 'bench nets' without --json and --report; give --json before"
        )
    turns = 3 if rounds is None else rounds
    return compare_commits(Path(), (first, second), arguments or ARGUMENTS, turns=turns, say=say)


def _write(found: Comparison, json_file: Path | None) -> None:
    """The comparison first, then the lines for people, which go to stdout unless the comparison does."""
    from streamseg.benchmark.compare.bench import lines
    from streamseg.core.files import finite, write_whole

    to_stdout = str(json_file) == "-"
    text = json.dumps(finite(found.to_json()), allow_nan=False, indent=None if to_stdout else 1)
    if to_stdout:
        print(text, flush=True)
    elif json_file is not None:
        write_whole(json_file, (text + "\n").encode())
    print("\n".join(lines(found)), file=sys.stderr if to_stdout else sys.stdout, flush=True)
