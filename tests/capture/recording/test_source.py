"""Recorded live runs as sources."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.capture import list_clips, open_source
from streamseg.capture.recording import reader
from streamseg.capture.recording.source import RecordingSource
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Roi, Source
from streamseg.recording.writer import Recorder
from tests.capture.media import number_of, read_all, write_video
from tests.recording.runs import HEADER, REGION, found_in, frame_of, pass_frame, record, screen, wait_for


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A recording of 50 frames, 25 a second, in two files."""
    recording, _ = record(tmp_path / "recordings", [screen(n) for n in range(50)], segment_seconds=1.0)
    return recording.path


def change(folder: Path, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    path = folder / "records.jsonl"
    lines = edit([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def killed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] != "end"]


def test_a_recording_is_one_source(recorded: Path) -> None:
    with open_source(recorded) as source:
        assert isinstance(source, Source)
        assert isinstance(source, RecordingSource)
        assert not source.live
        assert source.info.name == recorded.name
        assert (source.info.height, source.info.width, source.info.frame_count) == (64, 96, 50)
        assert source.info.region == Roi(0, 0, 96, 64)
        frames = list(source)
    assert source.note == ""
    assert [number_of(frame.image) for frame in frames] == list(range(50))
    base = source.info.time_base
    assert base is not None
    assert all(frame.pts_seconds == float(round((frame.pts_seconds or 0) / base) * base) for frame in frames)
    assert [planned.index for planned in source.planned] == list(range(50))


def test_a_folder_with_one_recording_opens_as_that_recording(recorded: Path, tmp_path: Path) -> None:
    parent = recorded.parent
    assert list_clips(recorded) == [str(recorded)]
    assert list_clips(parent) == [str(parent)]
    assert len(read_all(parent)[0]) == 50
    record(parent, [screen(7)])
    assert list_clips(parent) == [str(path) for path in sorted(parent.iterdir())]
    with pytest.raises(UsageError, match=r"folder of clips \(2\)"):
        open_source(parent)
    write_video(parent / "clip.mp4", 3)
    assert list_clips(parent) == [str(parent / "clip.mp4")]


def test_a_recording_starts_in_the_middle(recorded: Path) -> None:
    for start, first in ((0.0, 0), (0.04, 1), (0.5, 13), (1.2, 30), (1.96, 49)):
        frames, error = read_all(recorded, start_seconds=start)
        assert error is None
        assert [number_of(frame.image) for frame in frames] == list(range(first, 50))
        assert [frame.index for frame in frames] == list(range(50 - first))
    with pytest.raises(UsageError, match="at or after 3"):
        open_source(recorded, start_seconds=3.0)


def test_a_late_start_of_hours_keeps_its_times(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    recording.on_result(found_in(frame_of(-1)))
    times = [recording.anchor_ns + 5 * 3600 * 10**9 + number * 40_000_000 for number in range(5)]
    for number, captured_ns in enumerate(times):
        pass_frame(recording, frame_of(number, captured_ns=captured_ns))
        wait_for(recording, number + 1)
    recording.close()
    frames, error = read_all(recording.path)
    assert error is None
    assert [frame.pts_seconds for frame in frames] == [18_000 + number * 0.04 for number in range(5)]


def test_frames_with_equal_or_decreasing_times_are_all_delivered(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    recording.on_result(found_in(frame_of(-1)))
    for number, offset in enumerate((-5_000_000, -1_000, 0, 40_000_000, 40_000_000, 39_000_000)):
        pass_frame(recording, frame_of(number, captured_ns=recording.anchor_ns + offset))
        wait_for(recording, number + 1)
    recording.close()
    with RecordingSource(recording.path) as source:
        assert [number_of(frame.image) for frame in source] == list(range(6))
        offsets = [planned.captured_ns - recording.anchor_ns for planned in source.planned]
    assert offsets == [-5_000_000, -1_000, 0, 40_000_000, 40_000_000, 39_000_000]


def test_frames_without_pixels_are_noted(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    recording.on_frame(frame_of(0), time.monotonic_ns())
    recording.on_result(found_in(frame_of(0)))
    pass_frame(recording, frame_of(1))
    wait_for(recording, 1)
    recording.close()
    with RecordingSource(recording.path) as source:
        assert [number_of(frame.image) for frame in source] == [1]
    assert source.note.endswith("1 of 2 frames were listed without pixels")


@pytest.mark.parametrize("cut", [0, 1, 100, 3000])
def test_an_end_lost_to_a_kill_is_a_note_and_not_an_error(tmp_path: Path, cut: int) -> None:
    recording = Recorder(tmp_path / "run", header=HEADER, min_free=0)
    recording.on_result(found_in(frame_of(-1)))
    for number in range(40):
        pass_frame(recording, frame_of(number, captured_ns=recording.anchor_ns + number * 40_000_000))
        wait_for(recording, number + 1)
    kept = tmp_path / "kept"
    shutil.copytree(recording.path, kept)  # as it is in the middle of the run
    recording.close()
    video = kept / "original-0001.mp4"
    with video.open("r+b") as file:
        file.truncate(video.stat().st_size - cut)
    with RecordingSource(kept) as source:
        numbers = [number_of(frame.image) for frame in source]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 20
    missing = len(source.planned) - len(numbers)
    assert f"it was not ended properly, {missing} frame" in source.note


def test_a_missing_last_file_of_a_killed_run_is_not_an_error(recorded: Path) -> None:
    change(recorded, killed)
    (recorded / "original-0002.mp4").unlink()
    with RecordingSource(recorded) as source:
        assert [number_of(frame.image) for frame in source] == list(range(25))
    assert "25 frames missing at its end" in source.note


@pytest.mark.parametrize("ended", [True, False])
def test_a_recording_that_is_copied_while_it_is_read_gives_its_own_frames(
    ended: bool, recorded: Path
) -> None:
    if not ended:
        change(recorded, killed)
    video = recorded / "original-0002.mp4"
    whole = video.read_bytes()
    there = len(whole) - 8
    video.write_bytes(whole[:there])
    numbers: list[int] = []
    said = ""
    with RecordingSource(recorded) as source:
        try:
            for frame in source:
                numbers.append(number_of(frame.image))
                if len(numbers) == 26:  # the second file is open
                    with video.open("ab") as file:
                        file.write(whole[there:])
        except SourceError as error:
            said = str(error)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 26
    assert ("grew while it was read" if ended else "was not ended properly") in (said or source.note)


def test_a_larger_loss_is_an_error_after_the_last_frame(recorded: Path) -> None:
    (recorded / "original-0001.mp4").write_bytes(b"damaged")
    frames, error = read_all(recorded)
    assert [number_of(frame.image) for frame in frames] == list(range(25, 50))
    assert isinstance(error, SourceError)
    assert "25 frames missing" in str(error)
    assert "\n" not in str(error)


def test_damaged_records_give_the_frames_before_the_damage(recorded: Path) -> None:
    path = recorded / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 100
    path.write_bytes(b"".join(lines[:100]) + b"\0" * 50 + b"\n" + b"".join(lines[100:]))
    frames, error = read_all(recorded)
    assert len(frames) > 20
    assert "line 101" in str(error)
    path.write_bytes(b"".join(lines[:100]) + lines[100][:10])
    frames, error = read_all(recorded)
    assert len(frames) > 20
    assert error is None


@pytest.mark.parametrize(
    "line",
    [
        {"type": "segment", "file": "original-0001.mp4"},
        {"type": "offered", "index": "x"},
        {"type": "segment", **dict.fromkeys(("file", "segment", "frame_size", "shown", "roi"), 1)},
        [],
        {"kind": "offered"},
    ],
)
def test_impossible_lines_are_damage(recorded: Path, line: Any) -> None:
    with (recorded / "records.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    frames, error = read_all(recorded)
    assert len(frames) == 50
    assert isinstance(error, SourceError)


def test_records_cannot_lead_to_files_elsewhere(recorded: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "elsewhere.mp4", 50)

    def elsewhere(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**line, "file": str(other)} if line["type"] == "segment" else line for line in lines]

    change(recorded, elsewhere)
    frames, error = read_all(recorded)
    assert frames == []
    assert isinstance(error, SourceError)


def test_a_recording_without_pixels_is_refused(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    recording.on_frame(frame_of(0), time.monotonic_ns())
    recording.close()
    with pytest.raises(SourceError, match=r"holds no frame with pixels \(1 frame listed\)"):
        open_source(recording.path)


def test_a_folder_with_other_records_is_not_a_recording(tmp_path: Path) -> None:
    for text in ("", "{}", "[1]", "\0", '{"recording": "streamseg-recording-9"}'):
        (tmp_path / "records.jsonl").write_text(text)
        with pytest.raises(SourceError, match="nothing to read"):
            open_source(tmp_path)
    (tmp_path / "records.jsonl").write_text('{"recording": "streamseg-recording-1"}\n')
    with pytest.raises(SourceError, match="not a recording"):
        open_source(tmp_path)


def test_closing_in_the_middle_releases_the_file(recorded: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = open_source(recorded)
    frames = iter(source)
    next(frames)
    source.close()
    assert next(frames, None) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_recorded_screen_has_the_region_of_a_later_file(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0, full_frame=True)
    pass_frame(recording, frame_of(0), segment=False)
    wait_for(recording, 1)
    recording.on_result(found_in(frame_of(0)))
    pass_frame(recording, frame_of(1))
    wait_for(recording, 2)
    recording.close()
    with RecordingSource(recording.path) as source:
        assert source.info.region == REGION
        assert [number_of(np.ascontiguousarray(REGION.crop(frame.image))) for frame in source] == [0, 1]


def test_exchanged_files_are_reported_however_short_the_recording(recorded: Path) -> None:
    first, second = (recorded / f"original-000{number}.mp4" for number in (1, 2))
    spare = first.read_bytes()
    first.write_bytes(second.read_bytes())
    frames, error = read_all(recorded)
    assert len(frames) < 50
    assert "do not hold what its records say" in str(error)
    first.write_bytes(spare)
    second.write_bytes(spare)
    frames, error = read_all(recorded)
    assert len(frames) == 25
    assert "do not hold what its records say" in str(error)


def test_times_that_occur_twice_or_run_backwards_are_no_surprise(recorded: Path) -> None:
    lines = (recorded / "records.jsonl").read_text()
    at = next(json.loads(line) for line in lines.splitlines() if '"offered"' in line)["video"]
    change(recorded, lambda lines: [x | ({"video": at} if x["type"] == "offered" else {}) for x in lines])
    frames, error = read_all(recorded)
    assert len(frames) == 1
    assert "49 frames missing" in str(error)
    (recorded / "records.jsonl").write_text(lines)
    change(recorded, lambda lines: [lines[0], *reversed(lines[1:])])
    frames, error = read_all(recorded)
    assert (len(frames), error) == (50, None)


def test_impossible_places_in_the_records_are_damage_or_ignored(recorded: Path) -> None:
    lines = (recorded / "records.jsonl").read_text()
    change(
        recorded, lambda lines: [x | ({"roi": [0, 0, 65_000, 65_000]} if "roi" in x else {}) for x in lines]
    )
    assert len(read_all(recorded)[0]) == 50
    (recorded / "records.jsonl").write_text(lines)
    huge = {"shown": [0, 0, 60_000, 60_000], "frame_size": [60_000] * 2}
    change(recorded, lambda lines: [x | (huge if x["type"] == "segment" else {}) for x in lines])
    with pytest.raises(SourceError, match="holds no frame with pixels"):
        open_source(recorded)


@pytest.mark.parametrize("name", ["_MAX_LINES", "_MAX_ENTRIES"])
def test_records_without_end_are_read_up_to_a_limit(
    name: str, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred million lines would take gigabytes, and minutes."""
    monkeypatch.setattr(reader, name, 40)
    frames, error = read_all(recorded)
    assert 0 < len(frames) < 50
    assert "from line" in str(error)
