"""Real engines of the shipped weights, small, built once for all processes of a test run."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from streamseg.engines.manifest import Manifest, read_manifest
from streamseg.engines.store import ROOT_VARIABLE, EngineStore
from streamseg.export.recipe import Draw, Recipe

SIZE = (64, 96)
JUDGED = Draw((), 8, 924)
"""Phantoms of which INT8 finds what FP32 finds, also at this size: three with nerve, five without."""


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine as ``streamseg export --json`` built it; do not change it."""

    folder: Path
    manifest: Manifest
    fresh: bool
    printed: dict[str, Any]
    """What the command printed."""
    said: str
    """What the command wrote to standard error."""


@dataclass(frozen=True, slots=True)
class BuiltEngines:
    """The store, and in it an engine in FP32 and one in INT8."""

    store: EngineStore
    recipe: Path
    """Few phantoms: what is tested is the way, not the figures."""
    engines: dict[str, BuiltEngine]

    def __getitem__(self, precision: str) -> BuiltEngine:
        return self.engines[precision]


def built_in(root: Path) -> BuiltEngines:
    """The engines in a folder that all processes of a run share; whoever comes first builds them."""
    root.mkdir(exist_ok=True)
    store, recipe = EngineStore(root / "engines"), root / "few.json"
    with FileLock(root / "lock"):
        if not (root / "said.json").exists():
            Recipe("few", "phantom", 0, "mixed", Draw((), 6, 0), JUDGED).write(recipe)
            answers = [_export(store, recipe, precision) for precision in ("fp32", "int8")]
            (root / "said.json").write_text(json.dumps(answers))
    engines = {}
    for out, err in json.loads((root / "said.json").read_text()):
        values = json.loads(out)
        folder = Path(values["folder"])
        manifest, _ = read_manifest(folder)
        engines[values["precision"]] = BuiltEngine(folder, manifest, values["fresh"], values, err)
    return BuiltEngines(store, recipe, engines)


def _export(store: EngineStore, recipe: Path, precision: str) -> tuple[str, str]:
    """What the command writes to standard output and to standard error."""
    from streamseg.cli import main

    out, err = io.StringIO(), io.StringIO()
    size = f"{SIZE[0]}x{SIZE[1]}"
    asked = ["improved_unet", "--precision", precision, "--size", size, "--recipe", str(recipe), "--json"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv(ROOT_VARIABLE, str(store.root))
        code = main(["export", *asked])
    assert code == 0, err.getvalue()
    return out.getvalue(), err.getvalue()
