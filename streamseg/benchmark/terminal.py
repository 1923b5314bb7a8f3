"""A benchmark's result for the terminal: its tables, how it was measured, and what is wrong or absent."""

from __future__ import annotations

from collections.abc import Sequence

from streamseg.benchmark.rows.nets import NetRow
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.run import Row
from streamseg.benchmark.rows.streams import StreamsRow
from streamseg.benchmark.tables import (
    NET_CONTENT,
    NET_SPEED,
    TERMINAL,
    by_net,
    engines_of,
    make_table,
    net_label,
    peers_tables,
    pipeline_tables,
    size,
    streams_table,
)
from streamseg.reporting.document import Table
from streamseg.reporting.formatting import percent, table


def lines(rows: Sequence[Row]) -> list[str]:
    """A run's result as Markdown: its tables, and notes on it. Empty without rows."""
    nets = [row for row in rows if isinstance(row, NetRow)]
    pipeline = [row for row in rows if isinstance(row, PipelineRow)]
    streams = [row for row in rows if isinstance(row, StreamsRow)]
    peers = [row for row in rows if isinstance(row, PeerRow)]
    text = []
    if nets:
        text += _nets(nets)
    if pipeline:
        text += [line for made in pipeline_tables(pipeline, TERMINAL) for line in _lines(made)]
    if peers:
        text += [line for made in peers_tables(peers, TERMINAL) for line in _lines(made)]
    if streams:
        text += _streams(streams)
    text += _notes(rows)
    return text + ([f"This machine {verdict(streams)}."] if streams else [])


def _lines(made: Table) -> list[str]:
    return [f"{made.caption}:", "", *table(made.header, made.rows), ""]


def _nets(rows: Sequence[NetRow]) -> list[str]:
    """A table of each net, and how it was measured."""
    text = []
    columns = (*NET_SPEED, *NET_CONTENT)
    for net, own in by_net(rows):
        sizes = {size(row) for row in own}
        caption = f"{net}, {sizes.pop()}" if len(sizes) == 1 else net
        text += _lines(make_table(caption, "variant", own, net_label(own), columns, place=TERMINAL))
    run = rows[0].run
    words = [
        f"Frames of {(run.source or {}).get('name')}; {run.threads} threads; interleaved in up to "
        f"{run.regime.get('rounds')} rounds after {run.regime.get('warmup_calls')} calls of warm-up; every "
        f"call counts. Dice and agreement with FP32's masks on {rows[0].dice_data}."
    ]
    if any(row.trained is False for row in rows):
        words.append("Nets with random weights run end to end with a made-up outline.")
    return [*text, *words]


def _streams(rows: Sequence[StreamsRow]) -> list[str]:
    made = streams_table(rows, TERMINAL)
    regime = rows[0].run.regime
    nothing = "nobody reads the page" if "display" in regime else "nothing drawn"
    undrawn = "" if regime.get("drawn", True) else f", {nothing}"
    caption = f"Streams of {rows[0].source_fps:g} frames/s, engine {engines_of(rows)}{undrawn}"
    return [f"{caption}:", "", *table(made.header, made.rows), ""]


def _notes(rows: Sequence[Row]) -> list[str]:
    """What may mislead, each note once: if several rows have it, their number stands for their names."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            by_note.setdefault(note, []).append(row.key)
    text = [
        f"Note: {keys[0] if len(keys) == 1 else f'{len(keys)} of {len(rows)} rows'}: {note}"
        for note, keys in by_note.items()
    ]
    if not rows:
        return text
    if (others := rows[0].run.others_share) is not None:
        text.insert(0, f"Other processes took {percent(others)} of the processor meanwhile.")
    by_reason: dict[str, list[str]] = {}
    for key, reason in rows[0].run.absent.items():
        by_reason.setdefault(reason, []).append(key)
    return text + [f"Absent: {'; '.join(keys)}: {reason}" for reason, keys in by_reason.items()]


def verdict(rows: Sequence[StreamsRow]) -> str:
    """``holds 2 streams ... and 4 within 150 ms ...``: the largest number up to which every one is held."""
    first, last = rows[0], rows[-1]
    every = _last_held(rows, [row.holds_every_frame for row in rows])
    within = _last_held(rows, [row.holds_budget for row in rows])
    budget = first.budget_ms or first.run.budget_ms
    if within is None:
        return f"holds no stream within {budget:g} ms at {first.source_fps:g} frames/s"
    least = min((stream.displayed_fps or 0.0 for stream in within.per_stream), default=0.0)
    more = "; more were not tried" if within.streams == last.streams else ""
    return (
        f"holds {every.key if every else 'no stream'} of {within.source_fps:g} frames/s with "
        f"every frame segmented, and {within.streams} within {budget:g} ms (each with {least:.1f} "
        f"outlines a second on display, or more){more}"
    )


def _last_held(rows: Sequence[StreamsRow], held: Sequence[bool | None]) -> StreamsRow | None:
    found = None
    for row, holds in zip(rows, held, strict=True):
        if not holds:
            break
        found = row
    return found
