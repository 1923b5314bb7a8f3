"""Prints the human-readable figures at the end of a run: latencies per stage and written files, on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamseg.cli.console import say, stderr_console, table_text

if TYPE_CHECKING:
    from streamseg.cli.replay_clip import ClipReport
    from streamseg.core.latency import Percentiles


def show_run(run: ClipReport) -> None:
    """Print one clip's figures; nothing for a clip that failed before its first frame."""
    if run.stages:
        stages = {**run.stages, **({"age": run.age} if run.age else {})}
        show_latencies(f"{run.source}: milliseconds per frame", stages)
    if run.frames:
        rate = f", {run.fps:.1f} frames/s" if run.fps else ""
        states = ", ".join(f"{state} {count}" for state, count in run.states.items())
        outlined = outlined_words(run.outlined)
        say(f"{run.source}: {run.frames} frames in {run.seconds:.1f} s{rate}; {states}{outlined}")
    for output in run.outputs:
        say(f"wrote {output.path} ({output.frames} frames, {_size(output.size)})")
    for path, sink in run.sinks:
        if moved := getattr(sink, "retimed", 0):
            say(f"{path}: {moved} frames got later times, since their times in the source do not increase")


def outlined_words(outlined: Mapping[str, int]) -> str:
    """Frames by outlined structure: ``; outlined: nerve 97, vessel 280``.

    Empty for an engine that outlines nerves alone, since its states say the same.
    """
    if len(outlined) < 2:
        return ""
    return f"; outlined: {', '.join(f'{name} {count}' for name, count in outlined.items())}"


def show_latencies(title: str, stages: Mapping[str, Percentiles]) -> None:
    """Print a table with a row of percentiles per stage, on stderr."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("stage", box=SIMPLE_HEAD, title=table_text(title), title_justify="left")
    for column in ("p50", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    for name, times in stages.items():
        figures = (times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms)
        table.add_row(table_text(name), *(f"{figure:.1f}" for figure in figures))
    stderr_console().print(table)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
