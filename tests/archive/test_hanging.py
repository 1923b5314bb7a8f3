"""Workers that hang: they are ended, and they do not outlive the run that was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.optional import needs

needs("pyarrow")

from streamseg.archive import scheduler as module  # noqa: E402
from streamseg.archive.folder import ArchiveFolder  # noqa: E402
from streamseg.archive.local import LocalCrew  # noqa: E402
from tests.archive.hanging import OTHERS, archive_with_hanging, job  # noqa: E402
from tests.waiting import wait_for  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("holding", [False, True])
def test_a_clip_that_hangs_three_workers_is_failed_and_the_others_are_done(
    tmp_path: Path, holding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_S", module.STALL_S)
    made = job(tmp_path, holding=holding)
    run, said = archive_with_hanging(lambda made: LocalCrew(made, 1), made, OTHERS)
    assert (run.published, run.failed, run.frames) == (2, 1, 20)
    assert len(list((tmp_path / "notes").iterdir())) == len(said) == 3
    assert "the clip is tried again" in said[0]
    assert "3 workers ended in it; the last: its work did not go on" in said[-1]
    assert ArchiveFolder(made.out).write_failed() == 1
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker leaves by a thread, which cannot run")
def test_a_worker_that_hangs_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    call = [sys.executable, "-c", f"from tests.archive.hanging import drive; drive({str(tmp_path)!r})"]
    driver = subprocess.Popen(call, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    notes, worker = tmp_path / "notes", 0
    try:
        wait_for(lambda: notes.exists() and list(notes.iterdir()), "a worker that hangs", 120)
        worker = int(next(notes.iterdir()).name)
        os.kill(worker, 0)
    finally:
        driver.kill()
        driver.wait()
    try:
        wait_for(lambda: not Path(f"/proc/{worker}/cmdline").exists(), "its end")
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
