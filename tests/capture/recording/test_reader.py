"""Reading the records of a recorded live run."""

from __future__ import annotations

import json
from pathlib import Path

from streamseg.capture.recording.format import is_recording, recordings_in
from streamseg.capture.recording.reader import Shown, read_recording
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
