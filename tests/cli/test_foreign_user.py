"""Commands as a user whom this machine does not know: a container that runs as a number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamseg

UID = "54321"
AS_FOREIGNER = ("setpriv", "--reuid", UID, "--regid", UID, "--clear-groups", sys.executable)
PACKAGE = Path(streamseg.__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("setpriv") is None or not hasattr(os, "geteuid") or os.geteuid() != 0,
        reason="needs setpriv (util-linux) and root",
    ),
]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without a name, HOME or any other variable."""
    return subprocess.run(
        [*AS_FOREIGNER, "-m", "streamseg", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that such a user may write into; those of pytest are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, int(UID), int(UID))
        if subprocess.run([*AS_FOREIGNER, "-c", ""], check=False).returncode:
            pytest.skip("the Python of these tests is closed to other users")
        yield Path(name)


def test_doctor_reports(folder: Path) -> None:
    done = run("doctor", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "default_engine" in done.stdout
    assert "Traceback" not in done.stderr


def test_replay_writes_its_results(folder: Path) -> None:
    done = run(
        "replay", "phantom:?frames=3&nerve=always", "--records", "r.jsonl", "--out", "r.mp4", folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert "3 frames" in done.stderr
    assert len((folder / "r.jsonl").read_text().splitlines()) >= 4
    assert (folder / "r.mp4").stat().st_uid == int(UID)
