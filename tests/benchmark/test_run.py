"""The run of a benchmark: where its rows come from, its limits, and Ctrl-C."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.run import BenchOptions, BenchRun
from tests.benchmark.fakes import SPEC, small_kernels

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
