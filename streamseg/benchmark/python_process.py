"""Runs Python in a process of its own, as a user's first mask or a measurement beside others needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from streamseg.benchmark.provenance import ROOT
from streamseg.core.errors import EngineError, StallError


def run_python(
    arguments: Sequence[str],
    *,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    wrap: Sequence[str] = (),
) -> str:
    """What this Python prints with these arguments; it can import the checkout.

    ``environment`` adds to this process's; ``wrap`` is the command that starts it, such as ``unshare``.
    Raises EngineError, with the last line that it wrote, if it fails, and StallError if it takes longer than
    ``limit_s``.
    """
    given = {**os.environ, **(environment or {})}
    paths = [str(ROOT), *filter(None, [given.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [*wrap, sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
            env={**given, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired:
        raise StallError(f"a process of its own was not done after {limit_s:g} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        raise EngineError(f"a process of its own failed with exit code {done.returncode}: {said[-1][:300]}")
    return done.stdout
