"""Signals after engines were freed. A process of its own for each, since failing here means crashing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.small_engines import write_engine

HANDLE = """
import faulthandler, os, signal, sys
if sys.argv[2] == "faulthandler":
    faulthandler.enable()
from streamseg.backends import load_backend
from streamseg.backends.openvino.signal_stack import current_signal_stack

def stack():
    found = current_signal_stack()
    return found and (found.address, found.flags, found.size)

before = stack()
first, second = (load_backend(sys.argv[1]) for _ in range(2))
assert stack() == before
first.close()
second.close()
del first, second
assert stack() == before
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("mode", ["faulthandler", "plain"])
def test_a_signal_is_handled_after_two_engines_were_freed(mode: str, tmp_path: Path) -> None:
    write_engine(tmp_path / "engine")
    done = subprocess.run(
        [sys.executable, "-c", HANDLE, str(tmp_path / "engine"), mode],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
