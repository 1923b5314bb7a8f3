"""The command line in this process, and all that these tests import of modules which may move."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from streamseg.cli import app, main
from streamseg.engines.compatibility import identity
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import engine_name
from streamseg.sinks import read_records
from tests.benchmark.fakes import no_charts, small_kernels
from tests.training.runs import narrow_nets

__all__ = [
    "MADE",
    "RESULTS",
    "Ran",
    "command_tree",
    "engine_name",
    "identity",
    "narrow_nets",
    "no_charts",
    "read_manifest",
    "read_records",
    "run",
    "small_kernels",
]

HERE = Path(__file__).parent
MADE = HERE / "made_at_f5f4443"
RESULTS = HERE.parents[1] / "benchmarks/results"


@dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON value on stdout; fails with what the command said where there is none."""
        assert self.out, self.err
        return json.loads(self.out)


def run(*arguments: object, expect: int | None = 0, err: io.StringIO | None = None) -> Ran:
    """Run ``streamseg`` with these arguments; fails where its exit code is not ``expect`` (None: any).

    ``err`` receives what goes to stderr while the command runs.
    """
    out, err = io.StringIO(), err or io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert expect is None or code == expect, f"exit code {code}: {err.getvalue()}"
    return Ran(code, out.getvalue(), err.getvalue())


def command_tree() -> Any:
    """The commands as typer has them: a group with ``commands``, each with ``params``."""
    return typer.main.get_command(app)
