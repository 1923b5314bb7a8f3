"""``streamseg engines``: lists, verifies and prunes the engine store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import print_json, put, say, table_text
from streamseg.cli.options import JsonOption

if TYPE_CHECKING:
    from streamseg.engines.store import EngineStore

engines = typer.Typer(
    name="engines",
    help="List, verify and prune the engines that were built here. They are in engines/ of a checkout, else "
    "in the user's cache folder, or in the folder given by STREAMSEG_ENGINES.",
    rich_markup_mode=None,
)


@engines.command("list")
def list_engines(as_json: JsonOption = False) -> None:
    """List the engines and mark the one that runs by default.

    Reads only the manifests; verify reads the engines. Times were measured at build time: milliseconds per
    call, and the ratio to the shipped engine.
    """
    from streamseg.engines.store import EngineStore

    store = EngineStore()
    rows = [_row(path) for path in (entry.path for entry in store.entries())]
    taken = taken_by_default(store)
    if as_json:
        print_json({"store": str(store.root), "engines": rows, "default": taken})
        return
    if rows:
        _print_table(rows)
    else:
        put(f"no engines in {store.root}; 'streamseg export' builds some")
    put(f"live and replay take {taken} unless --engine names another")


@engines.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Engines to verify. Default: all, and the shipped ones."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that all files of the engines are intact.

    The exit code is 1 if an engine is damaged or does not match its name. An engine that does not fit this
    machine is reported, but is not damaged.
    """
    from streamseg.backends.loading import shipped_engines
    from streamseg.core.errors import EngineError
    from streamseg.engines.store import EngineStore

    store = EngineStore()
    paths = [_named(store, name) for name in names or ()]
    if not names:
        ours = shipped_engines()
        paths = [*ours, *(entry.path for entry in store.entries())]
    found = [_verdict(store, path) for path in paths]
    damaged = [one["name"] for one in found if one["problems"]]
    if as_json:
        print_json({"store": str(store.root), "good": not damaged, "engines": found})
    else:
        if not names and len(paths) == len(ours):
            put(f"no engines in {store.root}")
        for one in found:
            _print_verdict(one)
    if damaged:
        raise EngineError(
            f"{len(damaged)} of {len(found)} engines damaged: {', '.join(damaged)}; export them again, or "
            "remove them with 'streamseg engines prune'"
        )


@engines.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Remove every engine of the store.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove engines that are damaged or do not fit this machine.

    Also removes what killed builds left behind. Everything else in the store's folder stays, including
    engines that hold other files, that are links, or that were not named by export.
    """
    from streamseg.engines.maintenance import findings, remove
    from streamseg.engines.store import EngineStore

    store = EngineStore()
    removed: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for finding in list(findings(store, everything=everything)):
        line: dict[str, Any] = {"name": finding.path.name, "reason": finding.reason, "bytes": finding.bytes}
        gone = finding.removable and (dry_run or remove(store, finding))
        if finding.removable and not gone:
            line["reason"] += "; left alone, since another process builds there"
        (removed if gone else kept).append(line)
        if not as_json:
            doing = ("would remove" if dry_run else "removed") if gone else "kept"
            put(f"{doing} {line['name']}: {line['reason']}")
    freed = sum(line["bytes"] for line in removed)
    if as_json:
        print_json(
            {"store": str(store.root), "dry_run": dry_run, "removed": removed, "kept": kept, "bytes": freed}
        )
    else:
        what = "would be freed" if dry_run else "freed"
        put(
            f"{freed / 1e6:.1f} MB {what} in {store.root}"
            if removed
            else f"nothing to remove in {store.root}"
        )


def taken_by_default(store: EngineStore) -> str:
    """Name of the engine that runs when none is named, as far as the manifests say."""
    from streamseg.backends.loading import DEFAULT, WEIGHTS
    from streamseg.engines.manifest import read_unchecked
    from streamseg.engines.selection import candidates

    found = candidates(store, read_unchecked(WEIGHTS / DEFAULT).manifest, say=say)
    return found[0].name if found else DEFAULT


def _named(store: EngineStore, name: str) -> Path:
    from streamseg.backends.loading import shipped_engines
    from streamseg.core.errors import UsageError

    if name in (ours := {folder.name: folder for folder in shipped_engines()}):
        return ours[name]
    if (Path(name) / "manifest.json").is_file():
        return Path(name).resolve()
    entry = store.find(name)
    if entry is None:
        raise UsageError(f"no engine in {store.root} is called {name!r}; see 'streamseg engines list'")
    return entry.path


def _row(folder: Path) -> dict[str, Any]:
    """The list's values of an engine; if its manifest cannot be read, its name and the error."""
    from streamseg.core.errors import EngineError
    from streamseg.engines.compatibility import incompatibilities
    from streamseg.engines.maintenance import folder_bytes
    from streamseg.engines.manifest import read_unchecked

    row: dict[str, Any] = {"name": folder.name, "path": str(folder), "bytes": folder_bytes(folder)}
    try:
        found = read_unchecked(folder)
    except EngineError as error:
        return row | {"error": str(error), "misfits": []}
    manifest = found.manifest
    reasons = incompatibilities(manifest)
    return row | {
        "net": manifest.net,
        "backend": manifest.backend,
        "precision": manifest.precision,
        "precision_found": dict(manifest.precision_found),
        "height": manifest.spec.height,
        "width": manifest.spec.width,
        "batch": manifest.batch,
        "mirrored": manifest.spec.mirrored,
        "trained": manifest.trained,
        "passed": manifest.passed,
        "ms": manifest.speed.get("ms"),
        "ratio": manifest.speed.get("ratio"),
        "fits": not reasons,
        "misfits": reasons,
        "built": manifest.built.get("date"),
        "error": None if found.sealed else "its manifest was altered after it was written",
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("engine", overflow="fold")
    for column in ("computes in", "gate"):
        table.add_column(column)
    for column in ("ms", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("fits")
    table.add_column("MB", justify="right")
    table.add_column("built")
    for row in rows:
        table.add_row(*map(table_text, _cells(row)))
    # In a file or pipe lines are not wrapped.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    with console.capture() as drawn:  # its own escape sequences are welcome; the cells have none
        console.print(table)
    print("\n".join(line.rstrip() for line in drawn.get().splitlines() if line.strip()))
    for row in rows:
        if row["error"] or row["misfits"]:
            put(f"{row['name']}: {row['error'] or '; '.join(row['misfits'])}")


def _cells(row: Mapping[str, Any]) -> list[str]:
    size = f"{row['bytes'] / 1e6:.1f}"
    if "net" not in row:
        return [row["name"], "", "DAMAGED", "", "", "", size, ""]
    gate = "passed" if row["passed"] else "FAILED"
    return [
        row["name"],
        shares(row["precision_found"]),
        "DAMAGED" if row["error"] else gate if row["trained"] else "UNTRAINED",
        _number(row["ms"], 1),
        _number(row["ratio"], 2),
        "no" if row["misfits"] else "yes",
        size,
        str(row["built"] or ""),
    ]


def shares(found: Mapping[str, float]) -> str:
    """Shares of layers by type, the largest first: ``int8 82 %, fp32 18 %``."""
    parts = sorted(found.items(), key=lambda item: -item[1])
    return (
        ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in parts if share > 0) or "unknown"
    )


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else ""


def _verdict(store: EngineStore, folder: Path) -> dict[str, Any]:
    from streamseg.engines.compatibility import incompatibilities
    from streamseg.engines.manifest import read_unchecked

    problems = store.verify(folder)
    reasons = [] if problems else incompatibilities(read_unchecked(folder).manifest)
    return {"name": folder.name, "path": str(folder), "problems": problems, "misfits": reasons}


def _print_verdict(one: Mapping[str, Any]) -> None:
    if one["problems"]:
        put(f"DAMAGED  {one['name']}: {'; '.join(one['problems'])}")
    elif one["misfits"]:
        put(f"good     {one['name']} (but does not fit this machine: {'; '.join(one['misfits'])})")
    else:
        put(f"good     {one['name']}")
