"""The run of a benchmark: where its rows come from, its limits, and Ctrl-C."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.limits import MachineLimits
from streamseg.benchmark.run import BenchOptions, BenchRun
from streamseg.benchmark.time_limit import TOO_LATE, TimeLimit
from streamseg.core.errors import EngineError
from tests.benchmark.fakes import SPEC, Clock, small_kernels

__all__ = ["small_kernels"]


def test_a_run_says_how_it_was_measured(clip_path: Path) -> None:
    options = BenchOptions(
        source=str(clip_path), quick=True, threads=2, arguments=("bench", "nets", "--source", str(clip_path))
    )
    said: list[str] = []
    with BenchRun(options, said.append) as run:
        folder = run.folder
        assert folder.is_dir()
        assert len(run.open_clip(frames=5).frames) == 5
        run.measure(lambda: None, finished=lambda: True)
        run.absent["segnet"] = "no torch"
    assert not folder.exists()
    info = run.info({"rounds": 3})
    assert info.command == "streamseg bench nets --source small.mp4"
    assert (info.quick, info.threads, info.stopped) == (True, 2, False)
    assert info.source is not None
    assert info.source["name"] == "small.mp4"
    assert info.regime == {"rounds": 3}
    assert info.limits["fp32"].kernel == "small product"
    assert info.absent == {"segnet": "no torch"}
    assert info.date in info.started
    assert info.seconds is not None
    assert info.machine["cores"] > 0
    assert said == ["measuring the machine's limits"]
    json.dumps(info.to_json(), allow_nan=False)


def test_the_command_is_kept_without_folders(tmp_path: Path) -> None:
    """A result is published; a folder may be called after a patient."""
    clip = tmp_path / "Doe_Jane" / "clip.mp4"
    clip.parent.mkdir()
    clip.touch()
    new = str(clip.parent / "new.json")
    arguments = ("bench", "nets", "--source", str(clip), "--json", new, "--size", "32x64")
    with BenchRun(BenchOptions(arguments=arguments), print) as run:
        pass
    expected = "streamseg bench nets --source clip.mp4 --json new.json --size 32x64"
    assert run.info({}).command == expected


@pytest.mark.parametrize("finished", [True, False])
def test_ctrl_c_ends_it_if_something_is_finished_and_passes_through_otherwise(finished: bool) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with BenchRun(BenchOptions(), print) as run:
        run.measure(lambda: None, finished=lambda: False)
        assert not run.stopped
        if finished:
            run.measure(interrupted, finished=lambda: True)
        else:
            with pytest.raises(KeyboardInterrupt):
                run.measure(interrupted, finished=lambda: False)
    assert run.stopped == finished
    assert run.info({}).stopped == finished


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_goes_on_after_its_time_is_ended_with_what_is_finished(
    finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = TimeLimit(0.05)
    monkeypatch.setattr(limit, "enforced", lambda: TimeLimit.enforced(limit, grace_s=0.0))
    with BenchRun(BenchOptions(limit=limit), print) as run:
        if finished:
            run.until_ctrl_c(lambda: threading.Event().wait(60), finished=lambda: True)
        else:
            with pytest.raises(EngineError, match="nothing was finished within 0 s; give more by --within"):
                run.until_ctrl_c(lambda: threading.Event().wait(60), finished=lambda: False)
    assert not run.stopped
    assert run.why_unfinished == TOO_LATE
    assert run.info({"rounds": 3}).regime == {"rounds": 3, "total_seconds": 0.05}


def test_the_limits_are_not_measured_again_if_there_is_no_time() -> None:
    clock, calls = Clock(), list[float]()

    def run_for(seconds: float) -> None:
        with BenchRun(BenchOptions(limit=TimeLimit(10, clock_ns=clock)), print) as run:
            run.measure(clock.work(1e3 * seconds), finished=lambda: True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MachineLimits, "measure", lambda *_: (clock.work(2000)(), calls.append(clock.ns / 1e9)))
        run_for(5)
        assert calls == [2, 9]
        run_for(7)
    assert calls == [2, 9, 11]


def test_engines_are_closed_at_the_end_and_one_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamseg.benchmark.run.CLOSE_S", 0.05)
    free = threading.Event()

    class Wedged(FakeBackend):
        def close(self) -> None:
            free.wait(60)

    engine = FakeBackend(SPEC)
    with BenchRun(BenchOptions(), print) as run:
        assert run.keep(engine) is engine
        run.keep(Wedged(SPEC))
        assert not engine.closed
    assert engine.closed
    free.set()
