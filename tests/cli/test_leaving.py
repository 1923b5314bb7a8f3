"""A command that leaves a library computing ends with its own exit code, not with an abort."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from streamseg import cli

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
sys.argv[1:] = ["bench", "peers", "--json", sys.argv[2]]
sys.exit(main())
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
    root = Path(__file__).parents[2]
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


def test_threads_that_have_ended_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[Any, ...]] = []
    exits: list[int] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    monkeypatch.setattr(cli.os, "_exit", exits.append)
    free = threading.Event()
    thread = threading.Thread(target=free.wait, args=(60,), daemon=True)
    monkeypatch.setattr(cli, "_main", lambda _: thread.start() or 3)
    assert cli.main() == 3
    ((leave, *arguments),) = registered
    leave(*arguments)
    assert exits == [3]
    free.set()
    thread.join(10)
    leave(*arguments)
    assert exits == [3]


def test_nothing_is_done_if_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atexit, "register", lambda *call: pytest.fail("no thread was left"))
    monkeypatch.setattr(cli, "_main", lambda _: 0)
    assert cli.main() == 0
