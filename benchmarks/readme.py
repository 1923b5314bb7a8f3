"""Writes the benchmark tables of the README and of docs/results.md from the committed results.

    python -m benchmarks.readme [--check]

Of every machine the newest ``benchmarks/results/<date>-<machine>-bench-<name>.json`` of each benchmark
counts; machines with a GPU come first. The tables replace what stands between ``<!-- bench SELECTION -->``
and ``<!-- /bench -->``. The selection is one benchmark (``nets``, ``peers``, ``pipeline``, ``streams``),
``short`` for the README's few lines of the nets and of live video, or nothing for all complete tables.
With ``--check`` nothing is written, and the exit code is 1 if the tables differ.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from streamseg.benchmark.provenance import ROOT
from streamseg.benchmark.report.origin import remarks
from streamseg.benchmark.report.reading import (
    budget_of,
    by_net,
    engine_of,
    machine,
    number,
    size,
    spread,
    text,
    variant,
)
from streamseg.benchmark.report.tables import (
    KINDS,
    by_kind,
    exact,
    make_table,
    peer,
    per_stream,
    reasons,
    yes_or_no,
)
from streamseg.benchmark.rows import BENCHES, Row, read_rows
from streamseg.core.errors import DataError, StreamsegError, UsageError
from streamseg.core.files import write_whole
from streamseg.reporting.document import Table
from streamseg.reporting.formatting import UNKNOWN, count, figure, percent, table

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
PLACE = re.compile(r"<!-- bench ?(\w*) -->\n.*?<!-- /bench -->", re.DOTALL)
DOCUMENTS = ("README.md", "docs/results.md")
NAME = re.compile(rf"(\d{{4}}-\d\d-\d\d)-(.+)-bench-({'|'.join(BENCHES)})\.json")
ORDER = ("nets", "peers", "pipeline", "streams")
Rows = Sequence[Row]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if a document cannot be made or, with ``--check``, is not what it would be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a document differs")
    parser.add_argument(
        "--readme", type=Path, action="append", help=f"documents to write; default: {', '.join(DOCUMENTS)}"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    try:
        documents = options.readme or [ROOT / name for name in DOCUMENTS]
        return max([update(path, options.results, check=options.check) for path in documents])
    except StreamsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def update(document: Path, results: Path, *, check: bool = False) -> int:
    """Write the tables of one document anew, or compare them. Raises UsageError, DataError and SinkError."""
    now = document.read_text(encoding="utf-8")
    places = PLACE.findall(now)
    if not places or not len(places) == now.count("<!-- bench") == now.count(END):
        raise UsageError(
            f"{document} has no place for the tables; it needs the lines {BEGIN} and {END}, in pairs"
        )
    if unknown := sorted(set(places) - SELECTIONS.keys()):
        raise UsageError(
            f"{document} asks for tables {unknown[0]!r}; there are {', '.join(filter(None, SELECTIONS))}"
        )

    def filled(place: re.Match[str]) -> str:
        mark = place[0].partition("\n")[0]
        return "\n".join([mark, *lines(results, place[1], document.parent), END])

    new = PLACE.sub(filled, now)
    if new == now:
        return 0
    if check:
        print(
            f"{document} does not show the newest results; write it with: python -m benchmarks.readme",
            file=sys.stderr,
        )
        return 1
    write_whole(document, new.encode())
    return 0


def newest(results: Path) -> dict[str, dict[str, Path]]:
    """By machine's name, each benchmark's newest result. Raises DataError where there is none."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(results.glob("*-bench-*.json")):  # by date
        if match := NAME.fullmatch(path.name):
            found.setdefault(match[2], {})[match[3]] = path
    if not found:
        raise DataError(f"{results} holds no result of a benchmark; make one with: make bench")
    return found


def lines(results: Path, selection: str, folder: Path) -> list[str]:
    """What stands between the marks: every machine's tables of a selection. Raises DataError for damaged
    results. ``folder`` is that of the document, which links are relative to."""
    machines = [
        {bench: (path, read_rows(path)) for bench, path in paths.items()}
        for paths in newest(results).values()
    ]
    machines.sort(key=lambda found: not any(has_gpu(rows) for _, rows in found.values()))
    text_lines: list[str] = []
    for found in machines:
        for benches, part in SELECTIONS[selection]:
            if there := [bench for bench in benches if bench in found]:
                text_lines += [*part({bench: found[bench][1] for bench in there}), ""]
                for bench in there:
                    text_lines += [*origin(*found[bench], folder), ""]
    return text_lines[:-1]


def has_gpu(rows: Rows) -> bool:
    """Whether the machine has a GPU that we know."""
    return bool(text(rows[0]["run"], "machine", "gpu"))


def origin(path: Path, rows: Rows, folder: Path) -> list[str]:
    """Where a table is from: command, machine, commit and file."""
    run = rows[0]["run"]
    command = " ".join(text(run, "command").split()[:3])
    name = Path(os.path.relpath(path, folder)).as_posix()
    words = (
        f"(`{command}` on {machine(run)}, {text(run, 'date')}, commit {text(run, 'machine', 'commit')}; "
        f"[figures]({name}).)"
    )
    return prose(" ".join([words, *(f"**Not for publication: {remark}**" for remark in remarks([rows]))]))


def prose(words: str) -> list[str]:
    """Lines of text that is not too wide."""
    return textwrap.wrap(words, 120, break_long_words=False, break_on_hyphens=False)


def as_lines(found: Table) -> list[str]:
    """A table's Markdown."""
    return table(found.header, found.rows)


def nets_lines(rows: Rows) -> list[str]:
    """A row per net and variant, at the size that most rows have."""
    point = Counter(map(size, rows)).most_common(1)[0][0]
    shown = [row for row in rows if size(row) == point]
    first = {own[0]["key"]: net for net, own in by_net(shown)}
    columns = [
        ("variant", lambda row: variant(row).removeprefix("torch ")),
        ("engine, frames/s", lambda row: figure(number(row, "engine_fps"))),
        ("end to end", lambda row: figure(number(row, "end_to_end_fps"))),
        ("p50 / p99, ms", quantiles("latency_ms")),
        ("x eager", lambda row: figure(number(row, "ratio_to_eager", "median"))),
        ("of the limit", lambda row: percent(number(row, "limit_share"))),
        ("Dice", lambda row: exact(number(row, "dice"))),
        ("like FP32", lambda row: exact(number(row, "mask_agreement"))),
    ]
    made = make_table("", f"net, {point}", shown, lambda row: first.get(row["key"], ""), columns)
    judged = dict.fromkeys(words for row in shown if (words := text(row, "dice_data")))
    dice = f" Dice is of {', '.join(judged)}." if judged and "Dice" in made.header else ""
    return [
        *as_lines(made),
        "",
        *prose(
            "Every variant in turn in every round. End to end: from the encoded file to the drawn outline. "
            "x eager: against torch eager FP32 as trained, within a round. Of the limit: against the fastest "
            "arithmetic in that precision that was found in the same rounds. Like FP32: Dice of the masks "
            f"with those of FP32.{dice}"
        ),
    ]


def quantiles(name: str) -> Callable[[Row], str]:
    """A column of a distribution's p50 and p99."""

    def column(row: Row) -> str:
        p50, p99 = number(row, name, "p50"), number(row, name, "p99")
        return UNKNOWN if p50 is None else f"{figure(p50)} / {figure(p99)}"

    return column


def peers_lines(rows: Rows) -> list[str]:
    """A row per peer, the fastest of each kind first, and why, where it is known."""
    kinds = dict(by_kind(rows))
    first = {id(own[0]): caption for caption, own in kinds.items()}
    columns = [
        ("what", lambda row: f"**{peer(row)}**" if row.get("ours") is True else peer(row)),
        ("precision", lambda row: text(row, "precision") or UNKNOWN),
        ("frames/s", lambda row: figure(number(row, "fps"))),
        ("p50 / p99, ms", quantiles("latency_ms")),
        ("ours is x times as fast", lambda row: "" if row.get("ours") is True else spread(row, "ratio")),
    ]
    shown = [row for own in kinds.values() for row in own]
    names = {key: SHORT.get(caption, caption) for key, caption in first.items()}
    found = as_lines(make_table("", "other programs", shown, lambda row: names.get(id(row), ""), columns))
    why = reasons([row for row in shown if (number(row, "ratio", "median") or 1.0) < 1])
    return (
        [*found, "", "Faster than ours, and what is known of why:", *(f"- {item}" for item in why)]
        if why
        else found
    )


SHORT: Mapping[str, str] = dict(
    zip(KINDS.values(), ("same weights", "file to drawn outline", "other nets"), strict=True)
)
"""Of the kinds' titles."""


def pipeline_lines(rows: Rows) -> list[str]:
    """A row per mode."""
    columns = [
        ("pace, frames/s", lambda row: count(number(row, "source_fps"))),
        ("offered", lambda row: count(number(row, "offered"))),
        ("processed", lambda row: count(number(row, "processed"))),
        ("dropped", lambda row: count(number(row, "dropped"))),
        ("frames/s", lambda row: figure(number(row, "fps"))),
        ("age p50 / p99, ms", quantiles("age_ms")),
        ("within the budget", lambda row: percent(number(row, "within_budget"), 1)),
    ]
    made = as_lines(make_table("", "pipeline", rows, lambda row: text(row, "key"), columns))
    return [*made, *engine_lines(rows)]


def engine_lines(rows: Rows) -> list[str]:
    """The engine that ran, and the age budget."""
    budget = f"The age budget is {budget_of(rows[0]['run']):g} ms."
    return ["", *prose(f"Engine: {engine_of(rows)}. {budget}" if engine_of(rows) else budget)]


def streams_lines(rows: Rows) -> list[str]:
    """A row per number of streams."""
    pace = count(number(rows[0], "source_fps"))
    columns = [
        ("each, frames/s", lambda row: figure(per_stream(row))),
        ("age p50 / p99, ms", quantiles("age_ms")),
        ("in the budget, worst", lambda row: percent(number(row, "within_budget"), 1)),
        ("processor", lambda row: percent(number(row, "processor_share"))),
        ("holds budget", lambda row: yes_or_no(row.get("holds_budget"))),
        ("every frame", lambda row: yes_or_no(row.get("holds_every_frame"))),
    ]
    name = f"streams of {pace} fps"
    made = as_lines(make_table("", name, rows, lambda row: count(number(row, "streams")), columns))
    return [*made, *engine_lines(rows)]


def short_nets_lines(found: Mapping[str, Rows]) -> list[str]:
    """Every variant of the first net, and of the others the one as trained and the fastest."""
    rows = found["nets"]
    point = Counter(map(size, rows)).most_common(1)[0][0]
    shown: list[Row] = []
    for at, (_, own) in enumerate(by_net([row for row in rows if size(row) == point])):
        fastest = max(own, key=lambda row: number(row, "engine_fps") or 0)
        shown += own if at == 0 else [own[0]] + [fastest] * (fastest is not own[0])
    first = {own[0]["key"]: net for net, own in by_net(shown)}
    columns = [
        ("variant", lambda row: variant(row).removeprefix("torch ")),
        ("engine, frames/s", lambda row: figure(number(row, "engine_fps"))),
        ("file to outline", lambda row: figure(number(row, "end_to_end_fps"))),
        ("p50 / p99, ms", quantiles("latency_ms")),
        ("x eager", lambda row: figure(number(row, "ratio_to_eager", "median"))),
        ("Dice", lambda row: exact(number(row, "dice"))),
    ]
    return as_lines(make_table("", f"net, {point}", shown, lambda row: first.get(row["key"], ""), columns))


def short_live_lines(found: Mapping[str, Rows]) -> list[str]:
    """Replay, live runs and several streams, a row each."""
    several = [row for row in found.get("streams", ()) if (number(row, "streams") or 0) > 1]
    rows = [*found.get("pipeline", ()), *several]

    def name(row: Row) -> str:
        if row in several:
            return f"{count(number(row, 'streams'))} streams of {count(number(row, 'source_fps'))} fps"
        return "replay" if text(row, "key").startswith("replay ") else text(row, "key")

    columns = [
        ("frames/s, each", lambda row: figure(per_stream(row) if row in several else number(row, "fps"))),
        ("dropped", lambda row: count(number(row, "dropped"))),
        ("age p50 / p99, ms", quantiles("age_ms")),
        ("within the budget", lambda row: percent(number(row, "within_budget"), 1)),
    ]
    return as_lines(make_table("", "pipeline", rows, name, columns))


PARTS: Mapping[str, Callable[[Rows], list[str]]] = {
    "nets": nets_lines,
    "peers": peers_lines,
    "pipeline": pipeline_lines,
    "streams": streams_lines,
}
Part = tuple[Sequence[str], Callable[[Mapping[str, Rows]], list[str]]]
"""Benchmarks that go into one table, and what makes its lines of their rows."""


def complete(bench: str) -> Part:
    """The complete table of one benchmark."""
    return (bench,), lambda found: PARTS[bench](found[bench])


SELECTIONS: Mapping[str, Sequence[Part]] = {
    "": [complete(bench) for bench in ORDER],
    **{bench: [complete(bench)] for bench in ORDER},
    "short": [(("nets",), short_nets_lines), (("pipeline", "streams"), short_live_lines)],
}
"""What a document can ask for."""

if __name__ == "__main__":
    sys.exit(main())
