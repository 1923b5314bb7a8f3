"""A benchmark that leaves a library computing ends with its own exit code, not with an abort."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer

from streamseg.cli.bench import common
from streamseg.cli.bench.common import exit_without_hanging_threads
from streamseg.core.errors import EngineError

BENCH = """
import sys, threading
from types import SimpleNamespace

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from streamseg.benchmark.peers import bench
from streamseg.cli import main
from tests.benchmark.sample_rows import make_run, peers_rows

x = ops.parameter([512, 512], np.float32)
product = ops.matmul(x, ops.constant(np.ones((512, 512), np.float32)), False, False)
request = ov.Core().compile_model(ov.Model([product.output(0)], [x], "p"), "CPU").create_infer_request()
computes = threading.Event()


def compute():
    while True:
        request.infer()
        computes.set()


def measure(options, say):
    threading.Thread(target=compute, daemon=True).start()
    computes.wait()
    if ENDS == "interrupted":
        raise KeyboardInterrupt
    run = make_run("bench peers", stopped=ENDS == "stopped")
    return [row for row in peers_rows(run) if row.kind == "net"]


ENDS = sys.argv[1]
bench.measure_peers = measure
sys.exit(main(["bench", "peers", "--json", sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ("stopped", 130),
        pytest.param("interrupted", 130, marks=pytest.mark.slow),
        pytest.param("done", 0, marks=pytest.mark.slow),
    ],
)
def test_a_library_that_computes_on_does_not_abort_the_program(tmp_path: Path, ends: str, code: int) -> None:
    script, rows = tmp_path / "bench.py", tmp_path / "rows.json"
    script.write_text(BENCH)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script), ends, str(rows)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "terminate called" not in done.stderr
    assert rows.exists() == (ends != "interrupted")
    assert ("Other nets" in done.stdout) == (ends != "interrupted")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (typer.Exit(3), 3), (EngineError("x"), 1), (None, 0)]
)
def test_it_leaves_with_the_code_that_it_would_have(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    registered: list[tuple[Any, ...]] = []
    exits: list[int] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    monkeypatch.setattr(common.os, "_exit", exits.append)
    free = threading.Event()
    thread = threading.Thread(target=free.wait, args=(60,), daemon=True)

    def run() -> None:
        with exit_without_hanging_threads():
            thread.start()
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    ((leave, *arguments),) = registered
    leave(*arguments)
    assert exits == [code]
    free.set()
    thread.join(10)
    leave(*arguments)  # it has ended: no thread is left
    assert exits == [code]


def test_nothing_is_done_if_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atexit, "register", lambda *call: pytest.fail("no thread was left"))
    with exit_without_hanging_threads():
        pass
