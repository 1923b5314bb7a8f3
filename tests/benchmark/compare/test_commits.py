"""Two commits of a throw-away checkout are run in turn, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.compare.commits import compare_commits, merged, worktrees
from streamseg.benchmark.compare.spread import SAME, WORSE
from streamseg.core.errors import DataError, EngineError, UsageError
from tests.benchmark.compared import row
from tests.benchmark.small_repository import git, make_repository

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The checkout; at the end no worktree and no temporary folder of it may be left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    made = make_repository(tmp_path)
    yield made
    assert len(git(made, "worktree", "list").splitlines()) == 1
    assert list(temporary.iterdir()) == []


def calls(repository: Path) -> list[dict[str, Any]]:
    path = repository.parent / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_slower_commit_is_found_whatever_the_machine_does(repository: Path) -> None:
    said: list[str] = []
    found = compare_commits(repository, ("old", "slow"), ["--net", "unet"], turns=3, say=said.append)
    assert [(one.figure, one.change.verdict) for one in found.findings] == [
        ("engine_ms", WORSE),
        ("end_to_end_fps", SAME),
        ("dice", SAME),
    ]
    assert found.findings[0].change.ratio == pytest.approx(1.2)
    assert found.findings[0].rounds == (3, 3)
    made = calls(repository)
    assert [call["ms"] for call in made] == [10.0, 12.0, 12.0, 10.0, 10.0, 12.0]
    assert {call["engines"] for call in made if call["ms"] == 10.0} == {"engines-A"}
    assert {call["engines"] for call in made if call["ms"] == 12.0} == {"engines-B"}
    assert all(call["arguments"][:5] == ["bench", "nets", "--quick", "--net", "unet"] for call in made)
    assert len(said) == 6
    assert said[0].startswith("turn 1 of 3: A (old, ")


def test_a_commit_with_itself(repository: Path) -> None:
    found = compare_commits(repository / "streamseg", ("slow", "slow"), turns=3)
    assert found.counts[SAME] == len(found.findings) == 3


@pytest.mark.parametrize(
    ("revisions", "reason"),
    [
        (("old", "nowhere"), "no commit 'nowhere'"),
        (("--help", "old"), "no commit '--help'"),
        (("old", ""), "no commit ''"),
        (("none", "old"), r"A \(none, .*no 'streamseg bench nets'"),
    ],
)
def test_revisions_that_cannot_be_compared(repository: Path, revisions: tuple[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compare_commits(repository, revisions)
    assert calls(repository) == []


def test_a_folder_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match="no git checkout"):
        compare_commits(tmp_path, ("old", "slow"))


def test_another_package_than_the_commits_is_noticed(repository: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository / "streamseg")
    git(repository, "add", ".")
    (repository / "README").write_text("moved")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "away")
    # Without a package of its own the commit would silently run the one that is installed.
    with pytest.raises(UsageError, match=r"in its place|cannot be run"):
        compare_commits(repository, ("HEAD", "old"))


def test_a_first_run_that_fails_ends_it_with_its_reason(repository: Path) -> None:
    (repository.parent / "fail-2").touch()
    with pytest.raises(EngineError, match=r"B \(slow, .*exit code 1: the engine broke"):
        compare_commits(repository, ("old", "slow"))


def test_a_later_run_that_fails_costs_its_turn(repository: Path) -> None:
    (repository.parent / "fail-4").touch()
    said: list[str] = []
    found = compare_commits(repository, ("old", "slow"), turns=4, say=said.append)
    assert found.findings[0].rounds == (3, 3)
    assert found.findings[0].change.verdict == WORSE
    assert any("left out" in line and "the engine broke" in line for line in said)


@pytest.mark.slow
def test_a_run_that_hangs_is_ended(repository: Path) -> None:
    (repository.parent / "hang").touch()
    with pytest.raises(EngineError, match=r"no result within 3 s"):
        compare_commits(repository, ("old", "slow"), limit_s=3)
    for call in calls(repository):  # none where a busy machine had not even begun it
        assert_over(call["pid"])


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ([signal.SIGTERM], 143),
        pytest.param([signal.SIGINT], 130, marks=pytest.mark.slow),
        pytest.param([signal.SIGINT, signal.SIGINT], 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_leaves_nothing_behind(repository: Path, signals: list[signal.Signals], code: int) -> None:
    (repository.parent / "hang").touch()
    command = [sys.executable, "-m", "streamseg", "bench", "compare", "--commits", "old", "slow"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: calls(repository))
        for number in signals:
            run.send_signal(number)
        assert run.stderr is not None
        assert run.stderr.read().count("\n") == 1
        assert run.wait(60) == code
    assert_over(calls(repository)[0]["pid"])


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_over(pid: int) -> None:
    def over() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(over)


def test_within_a_hook_the_checkout_is_still_the_one_given(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    with worktrees(repository, ("old", "slow")) as sides:
        assert [(side.folder / "streamseg/__init__.py").read_text() for side in sides] == [
            "VERSION = 'old'\n",
            "VERSION = 'slow'\n",
        ]
    monkeypatch.undo()


def test_runs_are_merged_by_turn() -> None:
    runs = [[row("x", [1.0, 2.0, 9.0], dice=0.8)], None, [row("x", [3.0], dice=0.9), row("y", [4.0])]]
    first, second = merged(runs)
    assert first["rounds"] == {"engine_ms": [2.0, None, 3.0]}
    assert first["dice"] == 0.9
    assert second["rounds"] == {"engine_ms": [None, None, 4.0]}
    with pytest.raises(DataError, match="no run gave any row"):
        merged([None, []])
