"""Runs the benchmark of two commits in turn and compares them, so that the machine's drift hits both.

Each commit gets a git worktree, a store for engines and an environment of its own in a temporary folder; all
of it goes at the end, whatever ends the comparison.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamseg.benchmark.compare.bench import Comparison, compare
from streamseg.benchmark.compare.single import number
from streamseg.benchmark.rows import Row, read_rows
from streamseg.core.errors import DataError, EngineError, StreamsegError, UsageError

ARGUMENTS = ("--net", "improved_unet", "--backend", "openvino", "--precision", "fp32,int8")
"""Of ``bench nets`` where none are given: most of a run is spent on building engines."""
RUN_S = 3600.0
"""A run that takes longer hangs."""
END_S = 10.0
"""How long a run may take to end once it is told to."""
GIT_S = 300.0
NOT_OURS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
"""Variables that a git hook sets for its own checkout."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two commits, checked out."""

    name: str
    """``A`` or ``B``."""
    revision: str
    """As it was given."""
    commit: str
    """Its short hash."""
    folder: Path
    engines: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: only its own package and engines, and no current folder on the path."""
        others = os.environ.get("PYTHONPATH")
        return {
            **_without_hooks(),
            "PYTHONPATH": os.pathsep.join([str(self.folder), *([others] if others else [])]),
            "PYTHONSAFEPATH": "1",  # and so for the processes that it starts
            "STREAMSEG_ENGINES": str(self.engines),
        }

    def __str__(self) -> str:
        return f"{self.name} ({self.revision}, {self.commit})"


def compare_commits(
    repository: Path,
    revisions: tuple[str, str],
    arguments: Sequence[str] = ARGUMENTS,
    *,
    turns: int = 3,
    say: Callable[[str], None] = lambda _: None,
    limit_s: float = RUN_S,
) -> Comparison:
    """Run ``streamseg bench nets --quick`` of two commits in turn, A B, B A, ..., and compare them in pairs.

    Of each run counts the median of its rounds. Raises UsageError for a folder without git, an unknown
    revision, or a commit without this benchmark; EngineError where a commit's first run fails. One that fails
    later is told, and its turn left out.
    """
    with worktrees(repository, revisions) as sides, tempfile.TemporaryDirectory() as folder:
        for side in sides:
            check_side(side)
        found: dict[str, list[list[Row] | None]] = {side.name: [] for side in sides}
        for turn in range(turns):
            for side in sides if turn % 2 == 0 else sides[::-1]:
                began = time.monotonic()
                try:
                    rows: list[Row] | None = run_side(side, arguments, Path(folder) / "rows.json", limit_s)
                    say(f"turn {turn + 1} of {turns}: {side} took {time.monotonic() - began:.0f} s")
                except StreamsegError as error:
                    if not any(found[side.name]):
                        raise
                    rows = None
                    say(f"turn {turn + 1} of {turns} is left out: {error}")
                found[side.name].append(rows)
    return compare(merged(found["A"]), merged(found["B"]), paired=True)


@contextlib.contextmanager
def worktrees(repository: Path, revisions: tuple[str, str]) -> Iterator[list[Side]]:
    """Both commits checked out in a temporary folder, which is removed at the end. Raises UsageError."""
    if shutil.which("git") is None:
        raise UsageError("comparing commits needs git, which is not installed")
    commits = [_commit(repository, revision) for revision in revisions]
    root = Path(tempfile.mkdtemp(prefix="streamseg-commits-")).resolve()
    sides = [
        Side(name, revision, commit, root / name, root / f"engines-{name}")
        for name, revision, commit in zip("AB", revisions, commits, strict=True)
    ]
    try:
        for side in sides:
            # Hooks are the checkout's own affair.
            command = ("worktree", "add", "--quiet", "--detach", str(side.folder), side.commit)
            _git(repository, "-c", f"core.hooksPath={os.devnull}", *command)
        yield sides
    finally:
        with _undisturbed():
            for side in sides:
                with contextlib.suppress(UsageError):  # what git was stopped in the middle of stays locked
                    _git(repository, "worktree", "unlock", str(side.folder))
            shutil.rmtree(root, ignore_errors=True)
            _git(repository, "worktree", "prune", "--expire=now")


def check_side(side: Side) -> None:
    """Raise UsageError where a run would not be of the commit's own package, or the commit cannot run."""
    file = _output(side, "-c", "import streamseg; print(streamseg.__file__)")
    if not Path(file).resolve().is_relative_to(side.folder):
        raise UsageError(
            f"commit {side} was checked out, and {file} was imported in its place; unset PYTHONPATH"
        )
    try:
        _output(side, "-m", "streamseg", "bench", "nets", "--help")
    except UsageError as error:
        raise UsageError(f"commit {side} has no 'streamseg bench nets'; choose a later one") from error


def run_side(side: Side, arguments: Sequence[str], rows: Path, limit_s: float = RUN_S) -> list[Row]:
    """The rows of one run. Raises EngineError where it fails or hangs, DataError for rows that are none."""
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", "streamseg", "bench", "nets", "--quick", *arguments, "--json", str(rows)]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command,
            env=side.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # ended with what it started, and Ctrl-C reaches it through us alone
        ) as process:
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"the benchmark of {side} gave no result within {limit_s:g} s") from error
            finally:
                with _undisturbed():
                    _end(process)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if code != 0:
        why = said[-1].removeprefix("error: ") if said else "it said nothing"
        raise EngineError(f"the benchmark of {side} failed with exit code {code}: {why}")
    return read_rows(rows)


def merged(runs: Sequence[Sequence[Row] | None]) -> list[Row]:
    """One result of several runs: by figure the median of each run's rounds, None where it has none.

    All else is the last run's that has the row. Raises DataError where no run has any.
    """
    found: dict[tuple[str, str], Row] = {}
    turns = [{(str(row["bench"]), str(row["key"])): row for row in run or ()} for run in runs]
    for turn in turns:
        found |= turn
    if not found:
        raise DataError("no run gave any row; call the benchmark by itself to see why")
    return [
        {
            **row,
            "rounds": {
                figure: [_median(turn.get(name), figure) for turn in turns] for figure in row["rounds"]
            },
        }
        for name, row in found.items()
    ]


def _median(row: Row | None, figure: str) -> float | None:
    values = row["rounds"].get(figure) if row is not None else None
    numbers = [found for value in values or () if (found := number(value)) is not None]
    return statistics.median(numbers) if numbers else None


def _commit(repository: Path, revision: str) -> str:
    """A revision's short hash. Raises UsageError."""
    try:
        _git(repository, "rev-parse", "--git-dir")
    except UsageError as error:
        raise UsageError(
            f"{repository.absolute()} is in no git checkout, whose commits could be compared; "
            "call this within a checkout of streamseg"
        ) from error
    try:
        return _git(
            repository, "rev-parse", "--verify", "--short", "--end-of-options", f"{revision}^{{commit}}"
        ).splitlines()[-1]
    except UsageError as error:
        raise UsageError(f"there is no commit {revision!r} in this checkout; see 'git log'") from error


def _git(repository: Path, *arguments: str) -> str:
    """What git prints. Raises UsageError with its last line where it fails."""
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=GIT_S, env=_without_hooks()
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"git {arguments[0]} failed: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UsageError(f"git {arguments[0]} failed: {said[-1]}")
    return done.stdout.strip()


def _output(side: Side, *arguments: str) -> str:
    """What the commit's Python prints. Raises UsageError with its last line where it fails."""
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=GIT_S, env=side.environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"commit {side} cannot be run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UsageError(f"commit {side} cannot be run: {said[-1]}")
    return done.stdout.strip()


def _without_hooks() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NOT_OURS}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run that goes on, with all that it started."""
    for number_of in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number_of)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until what must be finished is: who presses twice leaves nothing behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
