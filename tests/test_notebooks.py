"""The notebooks of the documentation run from the first cell to the last, as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.optional import needs

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
NEEDS = {
    "replay-and-records": ("matplotlib",),
    "train-on-your-data": ("torch", "lightning_fabric"),
    "live-from-openigtlink": ("matplotlib", "pyigtl"),
}
"""Packages by notebook."""


def code(notebook: Path) -> list[str]:
    """The cells of code, in order."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_every_notebook_is_listed() -> None:
    assert {path.stem for path in NOTEBOOKS} == NEEDS.keys()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_code_that_compiles_and_no_outputs(notebook: Path) -> None:
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), "outputs may hold images, and are out of date at the next change"
    for cell in code(notebook):
        compile(cell, notebook.name, "exec")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path) -> None:
    needs(*NEEDS[notebook.stem])
    script = tmp_path / "notebook.py"
    script.write_text("\n".join(code(notebook)), encoding="utf-8")
    values = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, cwd=tmp_path, env=values
    )
    assert done.returncode == 0, done.stderr[-3000:]
