"""Writes the tables of the README, of docs/results.md and of the model card from the committed results.

    python -m benchmarks.readme [--check]

Of every machine the newest ``benchmarks/results/<date>-<machine>-bench-<name>.json`` of each benchmark
counts; machines with a GPU come first, then those measured last. The tables replace what stands between
``<!-- bench SELECTION -->`` and ``<!-- /bench -->``. The selection is one benchmark (``nets``, ``peers``,
``pipeline``, ``streams``), ``short`` for the README's few lines of the nets and of live video on the first
machine with a GPU and the first without, or nothing for all complete tables.
Between ``<!-- accuracy SELECTION -->`` and ``<!-- /accuracy -->`` stand the tables of
:mod:`benchmarks.model_card`. With ``--check`` nothing is written, and the exit code is 1 if the tables
differ.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import model_card
from streamseg.benchmark.provenance import ROOT
from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.reading import CLASSES, read_rows
from streamseg.benchmark.rows.run import Row
from streamseg.benchmark.rows.streams import StreamsRow
from streamseg.benchmark.tables import (
    LIVE,
    NET_CONTENT,
    NET_SPEED,
    PEERS,
    PIPELINE,
    README,
    SHORT,
    STREAMS,
    by_kind,
    by_net,
    engines_of,
    kind_title,
    make_table,
    reasons,
    size,
    title,
)
from streamseg.core.errors import DataError, StreamsegError, UsageError
from streamseg.core.files import write_whole
from streamseg.reporting.document import Table
from streamseg.reporting.formatting import count, table

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
PLACE = re.compile(r"<!-- (bench|accuracy) ?(\w*) -->\n.*?<!-- /\1 -->", re.DOTALL)
DOCUMENTS = ("README.md", "docs/results.md", "streamseg/weights/README.md")
NAME = re.compile(rf"(\d{{4}}-\d\d-\d\d)-(.+)-bench-({'|'.join(CLASSES)})\.json")
ORDER = ("nets", "peers", "pipeline", "streams")
Rows = Sequence[Any]
"""Rows of one benchmark."""


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
    for kind, known in (("bench", SELECTIONS), ("accuracy", model_card.SELECTIONS)):
        asked = [selection for word, selection in places if word == kind]
        if not places or not len(asked) == now.count(f"<!-- {kind}") == now.count(f"<!-- /{kind} -->"):
            raise UsageError(
                f"{document} has no place for the tables; it needs the lines {BEGIN} and {END}, or "
                "<!-- accuracy SELECTION --> and <!-- /accuracy -->, in pairs"
            )
        if unknown := sorted(set(asked) - known.keys()):
            raise UsageError(
                f"{document} asks for tables {unknown[0]!r}; there are {', '.join(filter(None, known))}"
            )

    def filled(place: re.Match[str]) -> str:
        mark = place[0].partition("\n")[0]
        if place[1] == "bench":
            made = lines(results, place[2], document.parent)
        else:
            made = model_card.lines(results, place[2], document.parent)
        return "\n".join([mark, *made, f"<!-- /{place[1]} -->"])

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
    """By machine's name, each benchmark's newest result. Raises DataError if there is none."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(results.glob("*-bench-*.json")):  # by date
        if match := NAME.fullmatch(path.name):
            found.setdefault(match[2], {})[match[3]] = path
    if not found:
        raise DataError(f"{results} holds no result of a benchmark; make one with: make bench")
    return found


def lines(results: Path, selection: str, folder: Path) -> list[str]:
    """The text between the marks: every machine's tables of a selection. Raises DataError for damaged
    results. ``folder`` is that of the document, which links are relative to."""
    machines = [
        {bench: (path, read_rows(path)) for bench, path in paths.items()}
        for paths in newest(results).values()
    ]
    for found in machines:
        if "nets" in found:
            path, rows = found["nets"]
            found["nets"] = path, with_known_dice(rows, results)
    machines.sort(key=lambda found: max(path.name for path, _ in found.values()), reverse=True)  # by date
    machines.sort(key=_lacks_gpu)
    if selection == "short":
        kinds = [_lacks_gpu(found) for found in machines]
        machines = [machines[kinds.index(kind)] for kind in dict.fromkeys(kinds)]
    text_lines: list[str] = []
    for found in machines:
        for benches, part in SELECTIONS[selection]:
            if there := [bench for bench in benches if bench in found]:
                text_lines += [*part({bench: found[bench][1] for bench in there}), ""]
                for bench in there:
                    text_lines += [*origin(*found[bench], folder), ""]
    return text_lines[:-1]


def _lacks_gpu(found: Mapping[str, tuple[Path, Rows]]) -> bool:
    """Whether nothing of a machine's results was measured on a GPU."""
    return not any(rows[0].run.gpu for _, rows in found.values())


def with_known_dice(rows: Sequence[NetRow], results: Path) -> list[NetRow]:
    """Rows of random weights with the Dice that the same engines of trained ones had in the newest committed
    result, where there is one; ``dice_data`` then names it. Raises DataError for damaged results."""
    if all(row.dice is not None for row in rows):
        return list(rows)
    known: dict[str, NetRow] = {}
    for path in sorted(results.glob("*-bench-nets.json")):  # by date
        known |= {row.key: row for row in read_rows(path) if row.trained and row.dice is not None}

    def filled(row: NetRow) -> NetRow:
        other = known.get(row.key)
        if row.dice is not None or other is None:
            return row
        words = f"{other.dice_data} ({title(row.net)}: trained weights, measured on {other.run.date})"
        return replace(row, dice=other.dice, mask_agreement=other.mask_agreement, dice_data=words)

    return [filled(row) for row in rows]


def origin(path: Path, rows: Sequence[Row], folder: Path) -> list[str]:
    """Where a table is from: command, machine, commit and file."""
    run = rows[0].run
    command = " ".join(run.command.split()[:3])
    name = Path(os.path.relpath(path, folder)).as_posix()
    words = f"(`{command}` on {run.hardware}, {run.date}, commit {run.commit}; [figures]({name}).)"
    return prose(" ".join([words, *(f"**Not for publication: {remark}**" for remark in run.remarks)]))


def prose(words: str) -> list[str]:
    """Lines of text that is not too wide."""
    return textwrap.wrap(words, 120, break_long_words=False, break_on_hyphens=False)


def as_lines(found: Table) -> list[str]:
    """A table's Markdown."""
    return table(found.header, found.rows)


def nets_lines(rows: Sequence[NetRow]) -> list[str]:
    """A line per net and variant, each net at the size that most of its rows have."""
    shown = at_one_size(rows)
    found = nets_table(shown, README)
    judged = dict.fromkeys(row.dice_data for row in shown if row.dice_data)
    dice = f" Dice is of {', '.join(judged)}." if judged and "Dice" in found.header else ""
    return [
        *as_lines(found),
        "",
        *prose(
            "Every variant in turn in every round. End to end: from the encoded file to the drawn outline. "
            "x eager: against torch eager FP32 as trained, within a round. Of the limit: against the fastest "
            "arithmetic in that precision that was found in the same rounds. Like FP32: Dice of the masks "
            f"with those of FP32.{dice}"
        ),
    ]


def at_one_size(rows: Sequence[NetRow]) -> list[NetRow]:
    """Each net's rows of the size that most of them have."""
    found: list[NetRow] = []
    for _, own in by_net(rows):
        point = Counter(map(size, own)).most_common(1)[0][0]
        found += [row for row in own if size(row) == point]
    return found


def nets_table(rows: Sequence[NetRow], place: str) -> Table:
    """The table of nets, each of one size; its first line names the net, and its size if they differ."""
    one_size = len(set(map(size, rows))) == 1
    first = {own[0].key: net if one_size else f"{net}, {size(own[0])}" for net, own in by_net(rows)}
    head = f"net, {size(rows[0])}" if one_size else "net"
    columns = (*NET_SPEED, *NET_CONTENT)
    return make_table("", head, rows, lambda row: first.get(row.key, ""), columns, place=place)


def peers_lines(rows: Sequence[PeerRow]) -> list[str]:
    """A line per peer, the fastest of each kind first, and why, if it is known."""
    kinds = by_kind(rows)
    first = {own[0].key: kind_title(kind, short=True) for kind, own in kinds}
    shown = [row for _, own in kinds for row in own]
    made = make_table("", "other programs", shown, lambda row: first.get(row.key, ""), PEERS, place=README)
    why = reasons([row for row in shown if (row.ratio.median or 1.0) < 1])
    said = ["", "Faster than ours, and what is known of why:", *(f"- {item}" for item in why)]
    return [*as_lines(made), *(said if why else [])]


def pipeline_lines(rows: Sequence[PipelineRow]) -> list[str]:
    """A line per mode."""
    made = make_table("", "pipeline", rows, lambda row: row.key, PIPELINE, place=README)
    return [*as_lines(made), *engine_lines(rows)]


def streams_lines(rows: Sequence[StreamsRow]) -> list[str]:
    """A line per number of streams."""
    name = f"streams of {count(rows[0].source_fps)} fps"
    made = make_table("", name, rows, lambda row: count(row.streams), STREAMS, place=README)
    return [*as_lines(made), *engine_lines(rows)]


def engine_lines(rows: Sequence[PipelineRow] | Sequence[StreamsRow]) -> list[str]:
    """The engine that ran, and the age budget."""
    budget = f"The age budget is {rows[0].run.budget_ms:g} ms."
    engines = engines_of(rows)
    return ["", *prose(f"Engine: {engines}. {budget}" if engines else budget)]


def short_nets_lines(found: Mapping[str, Rows]) -> list[str]:
    """Every variant of the first net, and of the others the one as trained and the fastest."""
    shown: list[NetRow] = []
    for at, (_, own) in enumerate(by_net(at_one_size(found["nets"]))):
        fastest = max(own, key=lambda row: row.engine_fps or 0.0)
        shown += own if at == 0 else [own[0]] + [fastest] * (fastest is not own[0])
    return as_lines(nets_table(shown, SHORT))


def short_live_lines(found: Mapping[str, Rows]) -> list[str]:
    """Replay, live runs and several streams, a line each."""
    several = [row for row in found.get("streams", ()) if (row.streams or 0) > 1]
    rows: list[PipelineRow | StreamsRow] = [*found.get("pipeline", ()), *several]

    def name(row: PipelineRow | StreamsRow) -> str:
        if isinstance(row, StreamsRow):
            return f"{count(row.streams)} streams of {count(row.source_fps)} fps"
        return "replay" if row.mode == "replay" else row.key

    return as_lines(make_table("", "pipeline", rows, name, LIVE, place=SHORT))


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
