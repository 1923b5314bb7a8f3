import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2  # Before av.

# isort: split
import av
import numpy as np
import pytest

from streamseg.core.errors import SinkError
from streamseg.core.types import Frame, Result, Roi, SourceInfo, State
from streamseg.render import compose_plain
from streamseg.sinks import VideoSink
from tests.full_disk import largest_file
from tests.render.examples import result, segmentation

ROOT = Path(__file__).parents[2]
CLIPS = sorted((ROOT.parent / "shared" / "data" / "clips").glob("*.mp4"))
BASE = Fraction(1, 61_000)


def info(rate=Fraction(30), time_base=BASE) -> SourceInfo:
    return SourceInfo("clip", 200, 300, rate=rate, time_base=time_base)


def write_video(path, ticks, source=None, *, hud=False, shape=(64, 96)) -> VideoSink:
    source = source or info()
    sink = VideoSink(path, source, hud=hud)
    for index, tick in enumerate(ticks):
        seconds = None if tick is None else float(tick * source.time_base)
        sink.write(result(shape, index=index, pts=seconds))
    sink.close()
    return sink


def read_times(path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return [frame.pts * stream.time_base for frame in container.decode(stream)]


VARIABLE = [123_456, 124_000, 125_001, 130_000, 160_000, 221_000, 300_000]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    ("ticks", "time_base"),
    [
        (VARIABLE, BASE),
        ([0, 1, 2, 3, 5, 9], Fraction(1001, 30_000)),
        ([7, 8, 9, 11], Fraction(1, 25)),
        ([1, 2, 90_001], Fraction(1, 90_000)),
        ([3_600_000_000, 3_600_033_333, 3_600_066_667], Fraction(1, 1_000_000)),
        ([40], Fraction(1, 1000)),
    ],
)
def test_times_survive_exactly(tmp_path, suffix, ticks, time_base):
    path = tmp_path / f"out{suffix}"
    sink = write_video(path, ticks, info(time_base=time_base))
    assert read_times(path) == [tick * time_base for tick in ticks]
    assert sink.retimed == 0


@pytest.mark.parametrize(("suffix", "unit"), [(".mkv", Fraction(1, 1000)), (".ts", Fraction(1, 90_000))])
def test_containers_with_their_own_time_unit_round_to_it(tmp_path, suffix, unit):
    path = tmp_path / f"out{suffix}"
    write_video(path, VARIABLE)
    assert read_times(path) == [round(tick * BASE / unit) * unit for tick in VARIABLE]


def test_unknown_time_base_keeps_microseconds(tmp_path):
    sink = VideoSink(tmp_path / "a.mp4", info(time_base=None), hud=False)
    for index in range(3):
        sink.write(result((64, 96), index=index, pts=1 + index / 3))
    sink.close()
    for index, time in enumerate(read_times(tmp_path / "a.mp4")):
        assert float(time) == pytest.approx(1 + index / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("rate", "step"), [(Fraction(30_000, 1001), Fraction(1001, 30_000)), (None, Fraction(1, 25))]
)
def test_a_source_without_times_is_written_at_its_rate(tmp_path, rate, step):
    path = tmp_path / "a.mp4"
    write_video(path, [None] * 4, info(rate, None))
    assert read_times(path) == [index * step for index in range(4)]


def test_negative_start_is_moved_to_zero(tmp_path):
    write_video(tmp_path / "a.mp4", [-3000, -2001, 0, 500])
    assert read_times(tmp_path / "a.mp4") == [tick * BASE for tick in (0, 999, 3000, 3500)]


def test_frames_are_never_reordered_nor_dropped(tmp_path):
    sink = write_video(tmp_path / "a.mp4", [5, 5, 4, 7, 8, 20, 3])
    assert read_times(tmp_path / "a.mp4") == [tick * BASE for tick in (5, 6, 7, 8, 9, 20, 21)]
    assert sink.retimed == 5


@pytest.mark.parametrize("time_base", [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000)])
def test_gaps_that_mp4_cannot_hold_are_an_error(tmp_path, time_base):
    hours = [0, round(5 * 3600 / time_base), round(300 * 3600 / time_base)]
    write_video(tmp_path / "a.mkv", hours, info(time_base=time_base))
    assert read_times(tmp_path / "a.mkv") == pytest.approx([0, 5 * 3600, 300 * 3600], abs=1)
    with pytest.raises(SinkError, match=r"seconds between two frames.*\.mkv"):
        write_video(tmp_path / "a.mp4", hours, info(time_base=time_base))
    write_video(tmp_path / "b.mp4", hours[:2], info(time_base=time_base))
    assert read_times(tmp_path / "b.mp4") == [tick * time_base for tick in hours[:2]]


def test_a_unit_finer_than_any_clock_leaves_room_for_gaps(tmp_path):
    write_video(tmp_path / "a.mp4", [0, 10**9 // 3, 60 * 10**9], info(time_base=Fraction(1, 10**9)))
    assert [float(time) for time in read_times(tmp_path / "a.mp4")] == pytest.approx([0, 1 / 3, 60], abs=1e-6)


def test_a_keyframe_comes_every_second(tmp_path):
    ticks = [index * 6100 for index in range(35)]
    write_video(tmp_path / "a.mp4", ticks)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.frames == 35
        keys = [packet.pts * stream.time_base for packet in container.demux(stream) if packet.is_keyframe]
    assert keys == [0, 1, 2, 3]


def test_the_video_shows_what_was_drawn(tmp_path):
    image = np.full((200, 300, 3), 60, np.uint8)
    subject = result(image=image, pts=0.0)
    sink = VideoSink(tmp_path / "a.mp4", info(), hud=False)
    sink.write(subject)
    sink.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="bgr24")
    assert cv2.PSNR(decoded, compose_plain(subject, full_frame=False)) > 30


@pytest.mark.parametrize("shape", [(1, 1), (33, 57), (480, 640, 3)])
@pytest.mark.parametrize("hud", [True, False])
def test_every_size_can_be_encoded(tmp_path, shape, hud):
    write_video(tmp_path / "a.mp4", [0, 1000], hud=hud, shape=shape)
    assert read_times(tmp_path / "a.mp4") == [0, 1000 * BASE]


def test_frames_of_other_sizes_are_fitted_into_the_first(tmp_path):
    sink = VideoSink(tmp_path / "a.mp4", info(), hud=False)
    for index, shape in enumerate([(100, 200), (200, 100, 3), (50, 60)]):
        image = np.full(shape, 200, np.uint8)
        sink.write(result(state=State.NO_NERVE, index=index, pts=index / 10, image=image))
    sink.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        first, tall, small = (frame.to_ndarray(format="gray") for frame in container.decode(video=0))
    assert first.shape == tall.shape == small.shape == (100, 200)
    assert tall[:, :60].mean() < 30
    assert tall[:, 80:120].mean() > 150


def test_only_the_region_is_recorded(tmp_path):
    image = np.full((200, 300), 255, np.uint8)
    roi = Roi(50, 40, 100, 80)
    roi.crop(image)[:] = 20
    subject = Result(Frame(image, 0, 0, 0.0), segmentation(State.NO_NERVE), roi)
    sizes = {}
    for full_frame in (False, True):
        path = tmp_path / f"{full_frame}.mp4"
        sink = VideoSink(path, info(), full_frame=full_frame, hud=False)
        sink.write(subject)
        sink.close()
        with av.open(str(path)) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="gray")
        sizes[full_frame] = (picture.shape, bool(picture.max() > 150))
    assert sizes == {False: ((80, 100), False), True: ((200, 300), True)}


def test_a_folder_that_disappears_is_an_error_and_closing_is_silent(tmp_path):
    folder = tmp_path / "gone"
    sink = VideoSink(folder / "a.mp4", info(), hud=False)
    folder.rmdir()
    with pytest.raises(SinkError, match=r"cannot write .*a\.mp4: No such file"):
        sink.write(result())
    with pytest.raises(SinkError, match="earlier error"):
        sink.write(result())
    sink.close()


ENDLESS = """
import os, sys
from fractions import Fraction
import numpy as np
from streamseg.core.errors import SinkError
from streamseg.sinks import VideoSink
from streamseg.core.types import SourceInfo
from pathlib import Path
from tests.render.examples import result
path, last, kill = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "kill"
sink = VideoSink(path, SourceInfo("x", 96, 128, time_base=Fraction(1, 30)), hud=False)
noise = np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)
try:
    for index in range(last):
        sink.write(result(index=index, pts=(60 + index) / 30, image=np.roll(noise, index, axis=1)))
    if kill:
        os.kill(os.getpid(), 9)
except SinkError as error:
    print("write", error)
before = len(os.listdir("/proc/self/fd"))
try:
    sink.close()
except SinkError as error:
    print("close", error)
sink.close()
print("files closed", before - len(os.listdir("/proc/self/fd")))
"""


def run_endless(path, frames, mode, limit=None):
    command = [sys.executable, "-c", ENDLESS, str(path), str(frames), mode]
    return subprocess.run(
        command,
        preexec_fn=largest_file(limit),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("suffix", "lost"), [(".mp4", 8), (".mkv", 9), pytest.param(".ts", 1, marks=pytest.mark.slow)]
)
def test_killed_process_leaves_what_was_finished(tmp_path, suffix, lost):
    path = tmp_path / f"a{suffix}"
    assert run_endless(path, 45, "kill").returncode == -signal.SIGKILL
    times = read_times(path)
    assert 45 - lost <= len(times) <= 45
    assert times[0] == 2
    assert [round(time * 30) for time in times] == list(range(60, 60 + len(times)))


@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".mkv", marks=pytest.mark.slow)])
def test_full_disk_leaves_what_was_finished(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    done = run_endless(path, 10_000, "limit", 300_000)
    assert done.returncode == 0, done.stderr
    told, closed = done.stdout.splitlines()
    assert told.startswith(f"write cannot write {path}: File too large; ")
    assert closed == "files closed 1"
    times = read_times(path)
    assert len(times) > 20
    assert [round(time * 30) for time in times] == list(range(60, 60 + len(times)))


def test_disk_that_fills_up_at_the_very_end(tmp_path):
    path = tmp_path / "a.mp4"
    run_endless(path, 40, "whole")
    done = run_endless(path.with_name("b.mp4"), 40, "limit", path.stat().st_size - 100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("close cannot write")
    assert done.stdout.endswith("files closed 1\n")
    assert read_times(path.with_name("b.mp4")) == read_times(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SinkError, match="permission denied"):
        VideoSink(tmp_path / "a.mp4", info())


@pytest.mark.skipif(not CLIPS, reason="the shared clips are not on this machine")
def test_real_clip_keeps_its_frames_and_times(tmp_path):
    with av.open(str(CLIPS[0])) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)][:20]
        base = stream.time_base
    sink = VideoSink(tmp_path / "a.mp4", info(time_base=base))
    roi = Roi(210, 42, 728, 580)
    empty = segmentation(State.NO_NERVE, frames[0][1].shape[:2])
    for index, (pts, image) in enumerate(frames):
        sink.write(Result(Frame(image, index, 0, float(pts * base)), empty, roi, {"infer": 10**7}, 10**7))
    sink.close()
    assert read_times(tmp_path / "a.mp4") == [pts * base for pts, _ in frames]
