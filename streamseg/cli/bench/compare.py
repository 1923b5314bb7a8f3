"""``streamseg bench compare``: reports what got slower or worse from one result to another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamseg.cli.bench.common import check_outputs
from streamseg.core.errors import DataError, UsageError
from streamseg.core.printable import printable


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B", help="Two files that --json of the other commands wrote.", show_default=False
        ),
    ],
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with code 1 if anything is slower, worse or no longer measured, but not if unclear.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the comparison to FILE, or to stdout if FILE is -. Overwrites.",
        ),
    ] = None,
) -> None:
    """Report what got slower or worse from A to B.

    A figure measured in rounds is slower if the interval of its change (from the spread of both runs' rounds)
    is entirely on that side, and the change exceeds what runs of the same program differ by: 10 %, or, if
    both measured the machine's limits, 5 % both with and without correction for the machine's own change.
    What may be chance is unclear. With fewer than three rounds a change must exceed 25 %, on a busy machine
    100 %; rows without rounds are compared by value: 10 %, p95 and p99 25 %. Dice is worse if it drops by
    more than 0.005, the share computed in the precision if it drops by 0.01.

    The exit code is 0 after comparing, whatever was found; 1 with --strict if anything is slower, worse or no
    longer measured; 2 for files that are not results and for wrong usage.
    """
    check_outputs(json_file, None)
    if len(results) != 2:
        raise UsageError(f"two results are compared, received {len(results)} files")
    from streamseg.benchmark.compare.bench import compare as compare_rows
    from streamseg.benchmark.compare.bench import lines
    from streamseg.benchmark.rows.reading import read_results
    from streamseg.core.files import finite, write_whole

    try:
        found = compare_rows(*map(read_results, results))
    except DataError as error:  # exit code 1 says that something is worse
        raise UsageError(str(error)) from error
    to_stdout = str(json_file) == "-"
    text = json.dumps(finite(found.to_json()), allow_nan=False, indent=None if to_stdout else 1)
    if to_stdout:
        print(text, flush=True)
    elif json_file is not None:
        write_whole(json_file, (text + "\n").encode())
    print(printable("\n".join(lines(found))), file=sys.stderr if to_stdout else sys.stdout, flush=True)
    if strict and found.worse:
        raise typer.Exit(1)
