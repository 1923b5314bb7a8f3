"""The table at the end of a replay: latencies per stage, and what was written. For people, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamseg.cli.console import say, stderr_console

if TYPE_CHECKING:
    from streamseg.cli.clip import ClipRun


def show_run(run: ClipRun) -> None:
    """Print one clip's figures. Nothing for a clip that broke before its first frame."""
    if run.stages:
        _show_latencies(run)
    if run.frames:
        rate = f", {run.fps:.1f} frames/s" if run.fps else ""
        states = ", ".join(f"{state} {count}" for state, count in run.states.items())
        say(f"{run.source}: {run.frames} frames in {run.seconds:.1f} s{rate}; {states}")
    for output in run.outputs:
        say(f"wrote {output.path} ({output.frames} frames, {_size(output.size)})")
    for path, sink in run.sinks:
        if moved := getattr(sink, "retimed", 0):
            say(f"{path}: {moved} frames were moved on, since their times in the source do not increase")


def _show_latencies(run: ClipRun) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        "stage", box=SIMPLE_HEAD, title=f"{run.source}: milliseconds per frame", title_justify="left"
    )
    for column in ("p50", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    for name, times in {**run.stages, **({"age": run.age} if run.age else {})}.items():
        figures = (times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms)
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    stderr_console().print(table)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
