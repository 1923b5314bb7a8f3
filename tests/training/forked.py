"""Processes of their own that start at once: forks of one that has imported torch and the trainer."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["streamseg.training.trainer", "streamseg.training.data", "tests.training.runs"]
"""Imported once for all: it takes seconds. None of them starts a thread, so a fork is sound."""


def fork(
    target: Callable[..., object], *args: object, said: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """A running process that calls ``target``, a function of a module that can be imported.

    Its standard error goes to the file ``said``; ``environment`` is set before anything runs. End it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_call, args=(target, args, said, dict(environment or {})), daemon=True)
    process.start()
    return process


def _call(
    target: Callable[..., object], args: tuple[object, ...], said: Path, environment: Mapping[str, str]
) -> None:
    with said.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - for as long as the process lives
    os.environ.update(environment)
    target(*args)
