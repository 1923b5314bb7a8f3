"""The records of a live run: frames, changes of the state, and whole lines whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.core.errors import UsageError
from streamseg.core.types import State
from streamseg.core.view import RunObserver, View
from streamseg.recording.live_records import LiveRecords
from streamseg.sinks import read_records
from tests.full_disk import largest_file
from tests.recording.runs import HEADER, found_in, frame_of, view_of

ROOT = Path(__file__).parents[2]


def test_frames_and_states_are_written_and_frames_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "live.jsonl"
    records = LiveRecords(path, header=HEADER)
    assert isinstance(records, RunObserver)
    started = json.loads(path.read_text().splitlines()[0])["started_ns"]
    results = [found_in(frame_of(number)) for number in range(5)]
    records.on_view(View(1, 0, State.STARTING, "opening the source"), started)
    for number, result in enumerate(results):
        records.on_frame(result.frame, result.frame.captured_ns)
        records.on_result(result)
        records.on_view(view_of(number + 2, result), started + (number + 1) * 500_000_000)
    records.on_view(View(9, 0, State.SOURCE_LOST, "no frame for 0.8 s"), started + 4_000_000_000)
    records.close()
    records.close()
    assert records.frames == 5
    assert records.error is None
    header, frames = read_records(path)
    assert header["live"] is True
    assert header["engine"]["name"] == "net"
    assert [frame["index"] for frame in frames] == list(range(5))
    assert [frame["captured_ns"] for frame in frames] == [result.frame.captured_ns for result in results]
    assert set(frames[0]) >= {"index", "pts", "state", "polygons", "age_ms", "stages_ms"}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    states = [(line["t"], line["state"], line["reason"]) for line in lines if line["type"] == "state"]
    assert states == [
        (0.0, "starting", "opening the source"),
        (0.5, "nerve", ""),
        (4.0, "source lost", "no frame for 0.8 s"),
    ]


def test_a_file_that_exists_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        LiveRecords(path, header=HEADER)
    assert path.read_text() == "mine"
    records = LiveRecords(path, header=HEADER, force=True)
    records.close()
    assert read_records(path)[1] == []


CHILD = """
import sys
from pathlib import Path
from streamseg.recording.live_records import LiveRecords
from tests.recording.runs import HEADER, found_in, frame_of
said = []
records = LiveRecords(Path(sys.argv[1]), header=HEADER, say=said.append)
for number in range(500):
    records.on_result(found_in(frame_of(number)))
records.close()
records.on_result(found_in(frame_of(500)))
print(records.error)
print(len(said), said[0])
"""


def test_a_full_disk_ends_the_file_after_a_whole_line_and_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(
        command,
        preexec_fn=largest_file(20_000),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    error, said = done.stdout.splitlines()
    assert "File too large" in error
    assert said.startswith("1 records end early: ")
    frames = read_records(path)[1]
    assert [frame["index"] for frame in frames] == list(range(len(frames)))
    assert len(frames) > 20
