"""Reading the records of a recorded live run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from streamseg.capture import open_source
from streamseg.capture.recording.format import is_recording, recordings_in
from streamseg.capture.recording.reader import Shown, read_recording
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import State
from streamseg.core.view import View
from streamseg.recording import Recorder
from tests.recording.runs import HEADER, found_in, frame_of


def test_a_state_lasts_until_the_next_within_the_requested_time(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    start = recording.anchor_ns
    for number, (state, at_s) in enumerate(
        ((State.STARTING, 0), (State.NO_NERVE, 1), (State.SOURCE_LOST, 3), (State.NO_NERVE, 4))
    ):
        recording.on_view(View(number + 1, 0, state), start + at_s * 1_000_000_000)
    for index in (3, 5, 6):
        recording.on_result(found_in(frame_of(index)))
    recording.close()
    recorded = read_recording(recording.path)
    second = 1_000_000_000
    assert recorded.state_seconds(start, start + 6 * second) == {
        "starting": 1.0,
        "no nerve": 4.0,
        "source lost": 1.0,
    }
    assert recorded.state_seconds(start + 2 * second, start + 3 * second) == {"no nerve": 1.0}
    assert recorded.state_seconds(start + 7 * second, start + 6 * second) == {}
    assert recorded.segmented == (3, 5, 6)
    assert recorded.shown[0] == Shown("starting", start, None, False)


def test_only_recordings_are_listed_oldest_first(tmp_path: Path) -> None:
    for name in ("2026-11-22T14-03-07", "2025-01-02T03-04-05", "other", "empty"):
        (tmp_path / name).mkdir()
        text = "{}" if name == "other" else json.dumps({"recording": "streamseg-recording-1"})
        if name != "empty":
            (tmp_path / name / "records.jsonl").write_text(text + "\n")
    (tmp_path / "file").write_text("")
    assert [path.name for path in recordings_in(tmp_path)] == ["2025-01-02T03-04-05", "2026-11-22T14-03-07"]
    assert recordings_in(tmp_path / "absent") == []
    assert not is_recording(tmp_path)


HEADER_LINE = '{"type":"header","recording":"streamseg-recording-1","anchor":{"monotonic_ns":5}}'
OFFERED = '{"type":"offered","index":0,"captured_ns":%s,"arrived_ns":7,"video":[1,%s]}'


@pytest.mark.parametrize(
    "line",
    [
        OFFERED % ("Infinity", "0"),
        OFFERED % ("NaN", "0"),
        OFFERED % ("1e999", "0"),
        OFFERED % ("1e99999999", "0"),
        OFFERED % ("9" * 5000, "0"),
        OFFERED % ("1" + "0" * 400, "0"),
        OFFERED % ("6", "1e30"),
        OFFERED % ("true", "0"),
        OFFERED % ('"6"', "0"),
        "[" * 100_000,
        '{"type":' * 100_000,
        '{"type":"view","state":"nerve","shown_ns":-Infinity,"index":null,"outline":true}',
        '{"type":"end","at_ns":1e999}',
        '{"type":"segment","segment":1,"file":"a.mp4","frame_size":[1e30,5],"shown":[0,0,5,5],"roi":null,'
        '"grey":true,"spacing_mm":null}',
        '{"type":"segment","segment":1,"file":"a.mp4","frame_size":[9,9],"shown":[0,0,5,5],"roi":null,'
        '"grey":true,"spacing_mm":[Infinity,1]}',
    ],
)
def test_lines_without_bounds_are_damage(line: str, tmp_path: Path) -> None:
    good = OFFERED % ("6", "0")
    (tmp_path / "records.jsonl").write_text("\n".join([HEADER_LINE, good, line, good]) + "\n")
    began = time.monotonic()
    recorded = read_recording(tmp_path)
    assert time.monotonic() - began < 2
    assert recorded.damaged_line == 3
    assert len(recorded.offered) == 1


@pytest.mark.parametrize(
    "header", ["[" * 100_000, HEADER_LINE.replace(":5}", ":Infinity}"), "1" * 5000, "x" * (5 << 20)]
)
def test_a_header_without_bounds_is_refused(header: str, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(header + "\n")
    assert not is_recording(tmp_path)
    with pytest.raises(SourceError):
        read_recording(tmp_path)


def test_a_sparse_file_of_20_gigabytes_is_read_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(HEADER_LINE + "\n" + OFFERED % ("6", "0") + "\n")
    os.truncate(path, 20 << 30)
    began = time.monotonic()
    recorded = read_recording(tmp_path)
    assert time.monotonic() - began < 2
    assert (len(recorded.offered), recorded.damaged_line) == (1, 3)
    os.truncate(path, 0)
    os.truncate(path, 20 << 30)
    assert not is_recording(tmp_path)
    with pytest.raises(SourceError):
        read_recording(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling"])
def test_records_that_are_not_a_file_do_not_block(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "recordings" / "one"
    folder.mkdir(parents=True)
    path = folder / "records.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nothing")
    assert not is_recording(folder)
    assert recordings_in(folder.parent) == []
    with pytest.raises((SourceError, UsageError)):
        read_recording(folder)
    with pytest.raises(SourceError, match="nothing to read"):
        open_source(folder)
