"""Recordings: what they hold, what they never hold, and that no failure reaches the run."""

from __future__ import annotations

import json
import stat
import threading
import time
import weakref
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

# isort: split
import av
import numpy as np
import pytest

from streamseg.capture.recording.reader import read_recording
from streamseg.capture.video.pixels import DecodedPicture, FrameConverter
from streamseg.core.errors import SinkError
from streamseg.core.types import Frame, Roi, State, Yuv420
from streamseg.core.view import RunObserver, View
from streamseg.recording import writer
from streamseg.recording.segments import SegmentedVideo
from streamseg.recording.writer import Recorder
from streamseg.render.live import LiveStyle
from streamseg.sinks import read_records
from tests.capture.media import number_of, read_all
from tests.recording.runs import (
    HEADER,
    REGION,
    SCREEN,
    found_in,
    frame_of,
    pass_frame,
    record,
    screen,
    view_of,
    wait_for,
)


def lines_of(recording: Recorder, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (recording.path / "records.jsonl").read_text().splitlines()]
    return [line for line in lines if line["type"] == kind]


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pictures_in(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_every_frame_comes_back_with_its_exact_times(tmp_path: Path) -> None:
    recording, frames = record(tmp_path, [screen(number) for number in range(40)], segment_seconds=0.5)
    assert isinstance(recording, RunObserver)
    assert files_of(recording.path) == [
        *("original-0001.mp4", "original-0002.mp4", "original-0003.mp4", "original-0004.mp4"),
        "records.jsonl",
    ]
    found, error = read_all(recording.path)
    assert error is None
    assert [number_of(frame.image) for frame in found] == list(range(40))
    assert [frame.index for frame in found] == list(range(40))
    assert {frame.spacing_mm for frame in found} == {(0.1, 0.2)}
    expected = [round((frame.captured_ns - recording.anchor_ns) / 1000) / 1e6 for frame in frames]
    assert [frame.pts_seconds for frame in found] == expected
    recorded = read_recording(recording.path)
    assert [frame.captured_ns for frame in recorded.offered] == [frame.captured_ns for frame in frames]
    assert [frame.arrived_ns - frame.captured_ns for frame in recorded.offered] == [1_000_000] * 40
    assert recorded.ended_ns is not None


def test_the_header_says_what_was_recorded_and_when(tmp_path: Path) -> None:
    before = time.time_ns()
    recording, _ = record(tmp_path, [screen(0)])
    header, frames = read_records(recording.path / "records.jsonl")
    assert header["engine"] == {"name": "net", "sha256": "ab"}
    assert header["age_budget_ms"] == 150
    assert before <= header["anchor"]["wall_ns"] <= time.time_ns()
    assert header["anchor"]["monotonic_ns"] == recording.anchor_ns
    started = datetime.fromisoformat(header["started"])
    assert abs(started.timestamp() * 1e9 - header["anchor"]["wall_ns"]) < 1e6
    assert recording.path.name == started.strftime("%Y-%m-%dT%H-%M-%S")
    assert stat.S_IMODE(recording.path.stat().st_mode) == 0o700
    assert [frame["index"] for frame in frames] == [-1, 0]
    assert frames[1]["polygons"] == [[[88, 62], [95, 62], [95, 69], [88, 69]]]


def test_recordings_of_the_same_second_have_a_folder_each(tmp_path: Path) -> None:
    made = [Recorder(tmp_path, header=HEADER, min_free=0) for _ in range(3)]
    for recording in made:
        recording.close()
    assert len({recording.path for recording in made}) == 3


def test_only_the_region_is_ever_recorded(tmp_path: Path) -> None:
    dark = np.full((*SCREEN, 3), 255, np.uint8)
    REGION.crop(dark)[:] = 20
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    for number in range(5):  # the region is not known yet
        recording.on_frame(frame_of(number, dark), time.monotonic_ns())
    for number in range(5, 10):
        pass_frame(recording, frame_of(number, dark.copy()), number)
        wait_for(recording, number - 5)
    recording.close()
    assert [line["left_out"] for line in lines_of(recording, "offered")[:6]] == ["no region known"] * 6
    assert {line["video"] is None for line in lines_of(recording, "offered")[6:]} == {False}
    assert files_of(recording.path) == ["original-0001.mp4", "records.jsonl"]
    pictures = pictures_in(recording.path / "original-0001.mp4")
    assert {picture.shape for picture in pictures} == {(64, 96, 3)}
    assert max(int(picture.max()) for picture in pictures) < 40


def test_the_whole_screen_is_recorded_if_requested(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [screen(number) for number in range(3)], full_frame=True)
    frames, error = read_all(recording.path)
    assert error is None
    assert {frame.image.shape for frame in frames} == {(*SCREEN, 3)}
    assert frames[0].image[:20].min() > 240
    from streamseg.capture import open_source

    with open_source(recording.path) as source:
        assert source.info.region == REGION


def test_grey_and_odd_sizes_come_back_as_they_were(tmp_path: Path) -> None:
    roi = Roi(3, 5, 95, 63)
    images = [cv2.cvtColor(screen(number), cv2.COLOR_BGR2GRAY).astype(np.uint8) for number in range(4)]
    recording, _ = record(tmp_path, images, roi=roi)
    frames, error = read_all(recording.path)
    assert error is None
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.shape == (63, 95)
        assert cv2.PSNR(frame.image, np.ascontiguousarray(roi.crop(image))) > 35


def test_a_new_size_or_region_starts_a_new_file(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    large, moved = Roi(10, 20, 192, 128), Roi(0, 0, 96, 64)
    number = 0
    for roi, size in ((REGION, SCREEN), (large, (240, 320)), (moved, SCREEN)):
        image = np.full((*size, 3), 255, np.uint8)
        recording.on_result(found_in(frame_of(-1, image), roi))
        for _ in range(3):
            pass_frame(recording, frame_of(number, image.copy()), number + 1, roi=roi)
            number += 1
            wait_for(recording, number)
    recording.close()
    assert [line["shown"] for line in lines_of(recording, "segment")] == [
        [40, 30, 96, 64],
        [10, 20, 192, 128],
        [0, 0, 96, 64],
    ]
    frames, error = read_all(recording.path)
    assert error is None
    assert [frame.image.shape[:2] for frame in frames] == [(64, 96)] * 3 + [(128, 192)] * 3 + [(64, 96)] * 3


def test_the_display_is_recorded_if_requested(tmp_path: Path) -> None:
    def compose(view: View, style: LiveStyle) -> Any:
        return np.full((50, 71, 3), 200, np.uint8)

    recording = Recorder(tmp_path, header=HEADER, min_free=0, compose=compose)
    frame = frame_of(0, captured_ns=recording.anchor_ns)
    found, late = view_of(1, found_in(frame)), replace(view_of(2, found_in(frame)), state=State.LAGGING)
    shown_ms = [(found, 10), (found, 50), (found, 90), (late, 100), (late, 120), (found, 130), (found, 200)]
    for view, at_ms in shown_ms:
        recording.on_view(view, recording.anchor_ns + at_ms * 1_000_000)
    recording.close()
    with av.open(str(recording.path / "annotated-0001.mp4")) as container:
        stream = container.streams.video[0]
        times = [round(frame.pts * stream.time_base * 1000) for frame in container.decode(stream)]
    assert times == [10, 90, 100, 130, 200]  # 15 a second, and every change of the state
    assert pictures_in(recording.path / "annotated-0001.mp4")[0].shape == (50, 72, 3)


def test_what_is_recorded_of_the_display_follows_its_style(tmp_path: Path) -> None:
    """The style at the moment of display counts, not that of the moment at which a view is drawn."""
    shown, drawn = [LiveStyle()], []
    may_draw = threading.Event()

    def compose(view: View, style: LiveStyle) -> Any:
        may_draw.wait(60)
        drawn.append(style.vessels)
        return np.zeros((16, 16, 3), np.uint8)

    recording = Recorder(tmp_path, header=HEADER, min_free=0, compose=compose, style=lambda: shown[0])
    frame = frame_of(0, captured_ns=recording.anchor_ns)
    for number, vessels in enumerate((True, False, False, True)):
        shown[0] = LiveStyle(vessels=vessels)
        at_ns = recording.anchor_ns + number * 100_000_000
        recording.on_view(view_of(number + 1, found_in(frame)), at_ns)
    may_draw.set()
    recording.close()
    assert drawn == [True, False, False, True]


def test_times_that_are_nan_do_not_end_a_recording(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header={**HEADER, "rate": float("inf")}, min_free=0)
    recording.on_result(found_in(frame_of(-1)))
    pass_frame(recording, replace(frame_of(0), pts_seconds=float("nan")))
    recording.close()
    assert recording.status().startswith("recorded")
    assert [line["pts"] for line in lines_of(recording, "offered")] == [None]


def test_states_are_listed_when_they_change(tmp_path: Path) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    lost = View(1, 0, State.STARTING, "opening the source")
    start = recording.anchor_ns
    recording.on_view(lost, start)
    recording.on_view(View(2, 0, State.STARTING, "still opening"), start + 500_000_000)
    result = found_in(frame_of(0))
    recording.on_view(view_of(3, result), start + 1_000_000_000)
    recording.on_view(view_of(4, result), start + 1_250_000_000)
    late = view_of(5, result, reason="limit 150 ms")
    recording.on_view(late, start + 3_000_000_000)
    recording.close()
    views = lines_of(recording, "view")
    assert [(line["state"], line["index"], line["outline"]) for line in views] == [
        ("starting", None, False),
        ("nerve", 0, True),
        ("nerve", 0, False),
    ]
    assert views[0]["age_ms"] is None
    assert views[2]["reason"] == "limit 150 ms"


def test_a_slow_encoder_loses_frames_but_no_lines_and_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_BYTES", 3 * screen(0).nbytes)
    slow = []

    def compose(view: View, style: LiveStyle) -> Any:
        slow.append(view.number)
        time.sleep(0.2)
        return np.zeros((16, 16, 3), np.uint8)

    recording = Recorder(tmp_path, header=HEADER, min_free=0, compose=compose)
    recording.on_result(found_in(frame_of(-1)))
    began = time.monotonic()
    for number in range(100):
        pass_frame(recording, frame_of(number), number + 1)
    told = time.monotonic() - began
    recording.close()
    assert len(slow) < 100
    assert told < 20  # 100 pictures one after another would take that long to compose
    listed = lines_of(recording, "offered")
    assert sorted(line["index"] for line in listed) == list(range(100))
    absent = [line for line in listed if line["video"] is None]
    assert recording.left_out == len(absent) > 0
    assert recording.frames == 100 - len(absent) > 0
    assert f"{len(absent)} left out" in recording.status()
    assert lines_of(recording, "end")[0]["left_out"] == len(absent)
    frames, error = read_all(recording.path)
    assert error is None
    kept = sorted(line["index"] for line in listed if line["video"] is not None)
    assert [number_of(frame.image) for frame in frames] == kept


class Blocked:
    """A drawing function that waits, and with it the recorder's thread."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self._entered, self._go_on = threading.Event(), threading.Event()

    def __call__(self, view: View, style: LiveStyle) -> Any:
        self.drawn.append(view.number)
        self._entered.set()
        assert self._go_on.wait(60)
        return np.zeros((16, 16, 3), np.uint8)

    def wait(self) -> None:
        assert self._entered.wait(60)

    def release(self) -> None:
        self._go_on.set()


def blocked_recording(folder: Path) -> tuple[Recorder, Blocked]:
    """A recording whose thread draws a view until it is released; the region is known."""
    blocked = Blocked()
    recording = Recorder(folder, header=HEADER, min_free=0, compose=blocked)
    recording.on_view(view_of(1, found_in(frame_of(-1, captured_ns=recording.anchor_ns))), 0)
    blocked.wait()
    return recording, blocked


def test_a_frame_that_waits_for_the_encoder_keeps_only_what_is_recorded(tmp_path: Path) -> None:
    recording, blocked = blocked_recording(tmp_path)
    colour, grey = [screen(k) for k in range(3)], [np.ascontiguousarray(screen(3)[..., 0])]
    alive = [weakref.ref(image) for image in (*colour, *grey)]
    for number, image in enumerate((*colour, *grey)):
        recording.on_frame(frame_of(number, image, captured_ns=recording.anchor_ns + number), 1)
    del image
    colour.clear()
    grey.clear()
    assert [ref() for ref in alive] == [None] * 4
    blocked.release()
    recording.close()
    assert recording.frames == 4
    assert recording.left_out == 0


def test_frames_that_wait_are_limited_by_bytes_and_views_yield_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = REGION.width * REGION.height * 3 // 2
    monkeypatch.setattr(writer, "QUEUE_BYTES", 4 * held)
    monkeypatch.setattr(writer, "QUEUE_FRAMES", 6)
    monkeypatch.setattr(writer, "MAX_QUEUE_BYTES", 20 * held)
    recording, blocked = blocked_recording(tmp_path)
    for number in range(10):
        recording.on_frame(frame_of(number, captured_ns=recording.anchor_ns + number * 10**8), 1)
    assert recording.left_out == 4
    late = frame_of(10, captured_ns=recording.anchor_ns)
    recording.on_view(view_of(2, found_in(late)), 10**9)
    blocked.release()
    recording.close()
    assert blocked.drawn == [1]
    assert recording.frames == 6
    absent = [line["index"] for line in lines_of(recording, "offered") if line["video"] is None]
    assert absent == [6, 7, 8, 9]


@pytest.mark.parametrize("roi", [Roi(8, 4, 96, 64), Roi(7, 5, 95, 63)])
@pytest.mark.parametrize(("matrix", "color_range"), [(1, 1), (5, 2), (2, 0)])
def test_decoded_pictures_come_back_in_their_own_colours(
    tmp_path: Path, matrix: int, color_range: int, roi: Roi
) -> None:
    smooth = np.indices((120, 160)).sum(axis=0).astype(np.uint8) // 2 + 40
    frame = av.VideoFrame(160, 120, "yuv420p")
    for plane, (rows, level) in zip(frame.planes, ((120, None), (60, 90), (60, 170)), strict=True):
        levels = np.full((rows, plane.line_size), level or 0, np.uint8)
        if level is None:
            levels[:, :160] = smooth
        plane.update(levels.tobytes())
    frame.colorspace, frame.color_range = matrix, color_range
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    recording.on_result(found_in(frame_of(-1), roi))
    picture = FrameConverter().picture(frame)
    assert isinstance(picture, DecodedPicture)
    recording.on_frame(Frame(picture, 0, recording.anchor_ns), 1)
    recording.close()
    frames, error = read_all(recording.path)
    assert error is None
    assert frames[0].shape == (roi.height, roi.width)
    assert np.abs(frames[0].image.astype(int) - Frame(picture, 0, 0).crop(roi)).max() <= 6


def test_another_kind_of_colours_begins_another_file(tmp_path: Path) -> None:
    planes = np.full((96, 64), 100, np.uint8)
    kinds = [Yuv420(planes), Yuv420(planes), Yuv420(planes, 1), Yuv420(planes, 1, full_range=True)]
    begun: list[int] = []
    video = SegmentedVideo(tmp_path, "original", seconds=60)
    for number, image in enumerate(kinds):
        video.add(image, number * 40_000, None, lambda name, count: begun.append(count))
    video.close()
    assert begun == [1, 2, 3]
    tags = []
    for number in begun:
        with av.open(str(tmp_path / f"original-{number:04d}.mp4")) as container:
            found = next(container.decode(video=0))
            tags.append((found.colorspace, found.color_range, found.format.name.startswith("yuvj")))
    assert tags == [(5, 1, False), (1, 1, False), (1, 2, True)]


def test_a_drawing_function_that_fails_ends_only_the_recording(tmp_path: Path) -> None:
    def compose(view: View, style: LiveStyle) -> Any:
        raise ValueError("no such font")

    said: list[str] = []
    recording = Recorder(tmp_path, header=HEADER, min_free=0, compose=compose, say=said.append)
    for number in range(20):
        pass_frame(recording, frame_of(number), number + 1)
    recording.close()
    pass_frame(recording, frame_of(20), 21)
    assert recording.status() == "recording stopped: no such font"
    assert len(said) == 1
    assert str(recording.path) in said[0]


def test_the_status_counts_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    assert recording.status() == "recording 0:00"
    recording.anchor_ns -= 72_000_000_000
    assert recording.status() == "recording 1:12"
    recording.close()
    recording.close()
    assert recording.status() == "recorded 1:12"


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        Recorder(tmp_path / "file" / "x", header=HEADER)


def test_threads_end_with_the_recording(tmp_path: Path) -> None:
    recording, _ = record(tmp_path, [screen(0)])
    assert not [thread for thread in threading.enumerate() if thread.name == "streamseg-record"]
    assert recording.frames == 1
    before = len(list(Path("/proc/self/fd").iterdir()))
    record(tmp_path, [screen(0)])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_is_recorded_once_the_image_is_not_where_it_was(tmp_path: Path) -> None:
    """Its old place may show a list of patients now; results of frames from before do not bring it back."""
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    frames = [frame_of(k, np.full((90, 120), 9 * k, np.uint8), captured_ns=k) for k in range(4)]
    recording.on_result(
        found_in(frame_of(-1, np.zeros((90, 120), np.uint8)))
    )  # the place is known from here on
    pass_frame(recording, frames[0])
    wait_for(recording, 1)
    gone = View(2, 0, State.STARTING, "the ultrasound image has left the screen", frames[1], None)
    recording.on_frame(frames[1], 2)
    recording.on_view(gone, 3)
    recording.on_result(found_in(frames[0]))
    recording.on_frame(frames[2], 4)
    pass_frame(recording, frames[3])
    recording.on_frame(replace(frames[3], index=4), 5)
    recording.close()
    lines = {line.index: line.video is not None for line in read_recording(recording.path).offered}
    assert not lines[2]
    assert lines[4]
