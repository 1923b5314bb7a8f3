"""Recorded videos: every frame once, in order, with its own time, up to where the file was cut."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

# isort: split
import av

from streamseg.capture import open_source
from streamseg.capture.video import reader
from streamseg.capture.video.reader import ContinuousTime
from streamseg.capture.video.source import VideoSource
from streamseg.core.errors import SourceCut, SourceError, UsageError
from streamseg.core.types import Frame
from tests.capture.media import HEIGHT, SHARED, WIDTH, number_of, picture, read_all, write_video

FORMATS = {
    "mp4": ("clip.mp4", {}),
    "matroska": ("clip.mkv", {}),
    "transport stream": ("clip.ts", {}),
    "avi": ("clip.avi", {"codec": "mpeg4"}),
    "avi with b-frames": ("clip.avi", {}),
    "motion jpeg": ("clip.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    "program stream": ("clip.mpg", {"codec": "mpeg2video"}),
    "flash": ("clip.flv", {"b_frames": 0}),
    "windows media": ("clip.wmv", {"codec": "wmv2"}),
    "webm": ("clip.webm", {"codec": "libvpx-vp9"}),
    "fragmented mp4": ("clip.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
    "lossless grey": ("clip.mkv", {"codec": "ffv1", "pixels": "gray"}),
    "10 bits": ("clip.mkv", {"codec": "ffv1", "pixels": "yuv420p10le"}),
    "odd size": ("clip.mkv", {"codec": "ffv1", "size": (97, 65)}),
    "variable rate": ("clip.mkv", {"pts": [n * n + 3 * n for n in range(30)], "base": Fraction(1, 1000)}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_frame_comes_once_in_order_with_its_time(name: str, tmp_path: Path) -> None:
    file, arguments = FORMATS[name]
    path = write_video(tmp_path / file, **arguments)
    with open_source(path) as source:
        frames = list(source)
    info = source.info
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert {frame.image.shape[:2] for frame in frames} == {(info.height, info.width)}
    times = [frame.pts_seconds for frame in frames]
    base = info.time_base
    assert base is not None
    steps = [round(Fraction(time) / base) for time in times if time is not None]
    assert [float(step * base) for step in steps] == times
    first = times[0]
    assert first is not None
    expected = [n * n + 3 * n for n in range(30)] if name == "variable rate" else [40 * n for n in range(30)]
    assert [round(1000 * (time - first)) for time in times if time is not None] == expected
    assert not source.live
    assert info.name == file
    assert name == "variable rate" or info.rate == 25
    assert name == "variable rate" or abs((info.frame_count or 0) - 30) <= 2


def test_frames_are_their_own_and_read_only(tmp_path: Path) -> None:
    frames, _ = read_all(write_video(tmp_path / "clip.mp4", 5))
    assert len({frame.image.ctypes.data for frame in frames}) == 5
    assert not any(frame.image.flags.writeable for frame in frames)
    assert sorted(frame.captured_ns for frame in frames) == [frame.captured_ns for frame in frames]


def test_times_before_and_after_zero_are_preserved(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "late.mkv", 5, pts=[5000 + 40 * n for n in range(5)], base=Fraction(1, 1000)
    )
    frames, _ = read_all(path)
    assert [frame.pts_seconds for frame in frames] == [5.0, 5.04, 5.08, 5.12, 5.16]


def test_a_stream_without_times_has_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "bare.h264", 12)
    frames, error = read_all(path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert {frame.pts_seconds for frame in frames} == {None}
    with pytest.raises(UsageError, match="no time stamps"):
        open_source(path, start_seconds=0.2)


@pytest.mark.parametrize("file", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi", "clip.mpg"])
@pytest.mark.parametrize("start", [0.04, 0.5, 0.52, 1.16])
def test_start_is_exact_and_relative(file: str, start: float, tmp_path: Path) -> None:
    codec = {"clip.avi": "mpeg4", "clip.mpg": "mpeg2video"}.get(file, "libx264")
    path = write_video(tmp_path / file, codec=codec)
    frames, error = read_all(path, start_seconds=start)
    assert error is None
    first = -(-round(start * 1000) // 40)
    assert [number_of(frame.image) for frame in frames] == list(range(first, 30))
    assert frames[0].index == 0


@pytest.mark.parametrize("start", [2.0, -1.0, float("nan"), float("inf")])
def test_impossible_start_is_a_usage_error(start: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_source(write_video(tmp_path / "clip.mp4", 10), start_seconds=start)


def test_the_size_may_change_in_the_middle(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{n}.h264", 5, size=(96, 64 + 32 * n)).read_bytes() for n in range(2)]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    frames, error = read_all(path)
    assert error is None
    assert [frame.image.shape[0] for frame in frames] == [64] * 5 + [96] * 5


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=44100)
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        output.mux(
            cover.encode(av.VideoFrame.from_ndarray(picture(0), format="bgr24").reformat(format="yuvj420p"))
        )
        quiet = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        quiet.sample_rate = 44100
        output.mux(sound.encode(quiet))
        output.mux(sound.encode(None))
    with pytest.raises(SourceError, match=r"holds no video \(only audio\)"):
        open_source(path)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "clip.mp4"])
def test_damage_in_the_middle_is_skipped_and_reported(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, 60)
    data = bytearray(path.read_bytes())
    start = len(data) * 2 // 5
    data[start : start + 400] = np.random.default_rng(3).bytes(400)
    path.write_bytes(data)
    source = open_source(path)
    assert isinstance(source, VideoSource)
    frames = []
    with source, pytest.raises(SourceError, match="damaged") as caught:
        frames.extend(source)
    assert not isinstance(caught.value, SourceCut)
    assert source.damaged > 0
    assert number_of(frames[-1].image) == 59
    assert len(frames) > 40


def test_a_recording_that_begins_between_key_frames_is_not_damaged(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.ts", 60)
    data = path.read_bytes()
    # Drop one and a half groups of pictures, but keep the tables in front.
    path.write_bytes(data[: 188 * 3] + data[len(data) // 4 // 188 * 188 :])
    frames, error = read_all(path)
    assert error is None
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == list(range(numbers[0], 60))


def test_text_and_lists_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing that moves\n" * 50)
    with pytest.raises(SourceError, match=r"not a video|is text"):
        open_source(text)
    listing = tmp_path / "clip.mp4"
    write_video(tmp_path / "real.ts", 5)
    listing.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        open_source(listing)


def test_closing_ends_the_frames(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", 10))
    next(iter(source))
    source.close()
    source.close()
    assert list(source) == []


def test_closing_while_another_thread_reads_is_safe(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 60, size=(320, 240))
    for delay in (0.0, 0.002, 0.01):
        source = open_source(path)
        frames: list[Frame] = []
        reader = threading.Thread(target=lambda s=source, f=frames: f.extend(s))
        reader.start()
        time.sleep(delay)
        source.close()
        reader.join(timeout=30)
        assert not reader.is_alive()
        assert [frame.index for frame in frames] == list(range(len(frames)))


CLIPS = sorted((SHARED / "clips").glob("*.mp4"))


@pytest.mark.skipif(not CLIPS, reason="needs the clips in ../shared/data/clips")
def test_real_clip_is_complete() -> None:
    frames, error = read_all(CLIPS[0])
    with av.open(str(CLIPS[0])) as container:
        expected = [frame.pts for frame in container.decode(video=0)]
    assert error is None
    assert [round(61000 * (frame.pts_seconds or 0)) for frame in frames] == expected
    assert frames[0].image.shape == (624, 1148, 3)
    assert cv2.cvtColor(frames[0].image, cv2.COLOR_BGR2GRAY).std() > 10


@pytest.mark.parametrize("file", ["clip.ts", "clip.mkv", "clip.mpg", "clip.webm", "clip.h264"])
def test_joined_recordings_continue_in_time(file: str, tmp_path: Path) -> None:
    """`cat a.ts b.ts`: the time stamps begin again in the middle."""
    codec = {"clip.mpg": "mpeg2video", "clip.webm": "libvpx-vp9"}.get(file, "libx264")
    one = write_video(tmp_path / file, 30, codec=codec)
    path = one.rename(tmp_path / f"joined{one.suffix}")
    path.write_bytes(path.read_bytes() * 2)
    frames, error = read_all(path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == list(range(30)) * 2
    if file == "clip.h264":
        return
    times = [frame.pts_seconds or 0.0 for frame in frames]
    assert np.diff(times) == pytest.approx(np.full(59, 0.04), abs=0.002)
    later, error = read_all(path, start_seconds=1.6)
    assert error is None
    assert [number_of(frame.image) for frame in later] == list(range(10, 30))


def test_one_wrong_time_stamp_moves_no_other() -> None:
    stamps = [40 * n for n in range(12)]
    stamps[5] = 5000
    stream = SimpleNamespace(average_rate=Fraction(25), guessed_rate=None, time_base=Fraction(1, 1000))
    clock = ContinuousTime(stream)  # type: ignore[arg-type]
    assert [clock.continued(stamp) for stamp in stamps] == stamps
    assert clock.continued(None) is None


@pytest.mark.parametrize("kind", ["clip.mp4", "fragmented.mp4", "clip.mov", "clip.flv"])
def test_joined_files_of_which_only_the_first_can_be_read_are_reported(kind: str, tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragmented.mp4" else None
    path = write_video(tmp_path / kind, 20, b_frames=0, options=options)
    assert read_all(path)[1] is None
    path.write_bytes(path.read_bytes() * 2)
    frames, error = read_all(path)
    assert [number_of(frame.image) for frame in frames][:20] == list(range(20))
    assert isinstance(error, SourceError)
    assert "several recordings in one" in str(error)


def test_a_call_that_a_library_refuses_is_not_reported_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PyAV 16, whose scaler knows no threads, intact files were called no videos."""
    clip = write_video(tmp_path / "a.mkv", 5, codec="ffv1", pixels="gray")

    class Scaler:
        def reformat(self, frame: av.VideoFrame, format: str) -> av.VideoFrame:
            return frame

    monkeypatch.setattr("streamseg.capture.video.pixels.VideoReformatter", Scaler)
    with pytest.raises(TypeError, match="threads"):
        read_all(open_source(str(clip)))


def test_frames_of_which_a_decoder_would_hold_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 17 megapixels with 4:4:4 and 10 bits, sixteen references take 1.7 GB."""
    eight = write_video(tmp_path / "a.mkv", 3)
    ten = write_video(tmp_path / "b.mkv", 3, pixels="yuv444p10le")
    monkeypatch.setattr(reader, "_MAX_REFERENCE_BYTES", 96 * 64 * 2)
    assert len(read_all(eight)[0]) == 3
    with pytest.raises(SourceError, match="convert it to 8 bits"):
        open_source(ten)


def test_an_encrypted_mp4_is_called_so(tmp_path: Path) -> None:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00112233445566778899aabbccddeeff",
        "encryption_kid": "00112233445566778899aabbccddeeff",
    }
    path = write_video(tmp_path / "clip.mp4", 5, options=options)
    frames, error = read_all(path)
    assert frames == []
    assert str(error) == "clip.mp4 is encrypted; export it without protection"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_of_several_video_streams_the_first_is_read_and_that_is_said(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
        for scale, stream in enumerate(streams, 1):
            stream.width, stream.height, stream.pix_fmt = 96 * scale, 64 * scale, "yuv420p"
        for number in range(6):
            for scale, stream in enumerate(streams, 1):
                image = picture(number + 100 * (scale - 1), 64 * scale, 96 * scale)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    with VideoSource(path) as source:
        assert [number_of(frame.image) for frame in source] == list(range(6))
        assert source.note == f"clip{suffix} holds 2 video streams; the first was read"


def test_a_file_with_sound_alone_holds_no_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert "holds no video (only audio)" in str(read_all(path)[1])
