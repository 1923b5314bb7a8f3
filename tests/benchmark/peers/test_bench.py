"""The whole comparison, small and short, with the real nets and pipelines."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg.benchmark.peers import bench as module
from streamseg.benchmark.peers.bench import KINDS, PeersOptions, measure_peers
from streamseg.benchmark.peers.measure import PeersSchedule
from streamseg.benchmark.peers.peer import Peer
from streamseg.benchmark.peers.pipelines import OURS_DRAWN
from streamseg.benchmark.rows.reading import read_rows
from streamseg.benchmark.rows.run import write_rows
from streamseg.benchmark.terminal import lines
from streamseg.core.errors import EngineError, UsageError
from tests.benchmark.fakes import peer, small_kernels

__all__ = ["small_kernels"]
TINY = PeersSchedule(rounds=2, block_seconds=0.0, run_rounds=1, run_frames=8, calibration_frames=2)
SIZE = (64, 80)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK", TINY)


def fakes(kind: str, *_: object) -> dict[str, object]:
    """One of ours and another of each kind."""
    frames = 4 if kind == "pipeline" else 1
    own, other = f"our {kind}", f"their {kind}"

    def made(name: str) -> Peer:
        return peer(name, own, "fp32", lambda: frames, frames=frames, version="v1", settings="runs")

    return {own: lambda: made(own), other: lambda: made(other)}


def test_rows_of_all_kinds_stand_alone(
    clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_makers", fakes)
    said: list[str] = []
    options = PeersOptions(
        source=str(clip_path), size=SIZE, quick=True, threads=1, arguments=("bench", "peers")
    )
    rows = measure_peers(options, said.append)
    assert [row.key for row in rows] == [f"{kind} {who} {kind}" for kind in KINDS for who in ("our", "their")]
    run = rows[0].run
    assert all(row.run is run for row in rows)
    assert run.command == "streamseg bench peers"
    assert (run.quick, run.threads, run.absent) == (True, 1, {})
    assert run.source["name"] == "small.mp4"
    assert run.regime == TINY.to_json()
    assert run.limits["fp32"].giga_per_s > 0
    assert run.stopped is False
    assert run.seconds >= 0
    assert "supervision" in run.machine
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == rows
    assert "preparing our pipeline" in said


def test_kinds_are_chosen_and_each_runs_once(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_makers", fakes)
    options = PeersOptions(
        kinds=("runtime", "runtime"), source=str(clip_path), size=SIZE, quick=True, rounds=3
    )
    rows = measure_peers(options)
    assert [row.kind for row in rows] == ["runtime", "runtime"]
    assert [len(block) for block in rows[0].durations_ms] == [3, 3, 3]


def test_ctrl_c_keeps_the_kinds_that_are_finished(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def until(last: str) -> Any:
        def make(kind: str, *rest: Any) -> Any:
            if kind == last:
                raise KeyboardInterrupt
            return fakes(kind, *rest)

        return make

    monkeypatch.setattr(module, "_makers", until("pipeline"))
    rows = measure_peers(PeersOptions(source=str(clip_path), size=SIZE, quick=True))
    assert {row.kind for row in rows} == {"runtime"}
    assert rows[0].run.stopped
    assert rows[0].run.absent.keys() == {"pipeline"}
    monkeypatch.setattr(module, "_makers", until("runtime"))
    with pytest.raises(KeyboardInterrupt):
        measure_peers(PeersOptions(source=str(clip_path), size=SIZE, quick=True))


def test_the_table_has_every_row_ours_marked_and_the_fastest_first(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_makers", fakes)
    rows = measure_peers(PeersOptions(source=str(clip_path), size=SIZE, quick=True))
    rows[0] = replace(rows[0], fps=1.0, notes=["it was slow"])
    rows[0].run.absent["runtime gone"] = "no such package"
    text = lines(rows)
    own = next(number for number, line in enumerate(text) if "| our runtime (ours) |" in line)
    other = next(number for number, line in enumerate(text) if "their runtime" in line)
    assert other < own
    assert "Note: runtime our runtime: it was slow" in text
    assert "Absent: runtime gone: no such package" in text
    assert sum(line.startswith("|---") for line in text) == 2
    assert lines([]) == []


def test_bad_options_are_refused_before_anything_is_made(clip_path: Path) -> None:
    with pytest.raises(UsageError, match="'engine'; choose among runtime, pipeline"):
        PeersOptions(kinds=("engine",))
    with pytest.raises(UsageError, match="multiples of 16"):
        measure_peers(PeersOptions(size=(50, 50)))
    with pytest.raises(UsageError, match=r"no such file|not exist|cannot"):
        measure_peers(PeersOptions(source="/nowhere/clip.mp4", size=SIZE))


def test_nothing_at_all_says_why(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Peer:
        raise EngineError("no luck")

    monkeypatch.setattr(module, "_makers", lambda *_: {"bad": broken})
    with pytest.raises(EngineError, match="nothing could be measured: no luck"):
        measure_peers(PeersOptions(kinds=("runtime",), source=str(clip_path), size=SIZE, quick=True))


def test_real_pipelines_at_a_small_size(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At another size than the shipped engine's they run our FP32 one."""
    monkeypatch.setitem(sys.modules, "supervision", None)
    monkeypatch.delenv("STREAMSEG_FAST", raising=False)
    rows = measure_peers(
        PeersOptions(kinds=("pipeline",), source=str(clip_path), size=SIZE, quick=True, threads=1)
    )
    own = next(row for row in rows if row.name == OURS_DRAWN)
    assert own.precision == "fp32"
    for row in rows:
        assert (row.delivered, row.frames, row.notes) == (8, 8, [])
        assert row.processor_ms > 0
    assert len(own.run.absent) == 4
    assert "STREAMSEG_FAST" in own.run.absent["pipeline FAST FP32, from PNG"]


def test_real_runtimes_of_a_clip(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("streamseg.benchmark.peers.runtimes.can_compute_in", lambda precision: False)
    rows = measure_peers(
        PeersOptions(kinds=("runtime",), source=str(clip_path), size=SIZE, quick=True, threads=1)
    )
    assert [row.name for row in rows] == ["streamseg, OpenVINO FP32"]
    assert rows[0].gflop is None
    absent = rows[0].run.absent
    assert "streamseg[bench]" in absent["runtime torch eager"]
