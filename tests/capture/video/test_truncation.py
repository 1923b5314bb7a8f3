"""Cut recordings are detected, and give every frame before the cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamseg.capture import open_source
from streamseg.capture.video import truncation
from streamseg.capture.video.truncation import is_cut
from streamseg.core.errors import SourceCut, SourceError
from tests.capture.media import number_of, read_all, write_video

FILES = {"clip.mkv": "libx264", "clip.ts": "libx264", "clip.avi": "libx264", "clip.mpg": "mpeg2video"}


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77, 0.9])
@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_gives_every_frame_before_the_cut(name: str, share: float, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, 60, codec=FILES[name])
    whole, error = read_all(path)
    assert error is None
    # A cut between two packets of a transport stream, or between two frames, could not be detected.
    end = int(path.stat().st_size * share) // 188 * 188 + 94
    path.write_bytes(path.read_bytes()[:end])
    frames, error = read_all(path)
    assert isinstance(error, SourceCut)
    assert error.exit_code == 1
    assert "\n" not in str(error)
    # What is left equals the whole file, except for the order of coding: a frame that is shown earlier may
    # have been stored later, and be lost.
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert len(set(range(max(numbers, default=-1) + 1)) - set(numbers)) <= 3
    assert all(np.array_equal(frame.image, whole[number_of(frame.image)].image) for frame in frames)
    assert [frame.pts_seconds for frame in frames] == [whole[number].pts_seconds for number in numbers]


@pytest.mark.parametrize("streamed", [False, True])
def test_every_cut_of_a_matroska_file_is_detected(streamed: bool, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", 20, options={"live": "1"} if streamed else None)
    data = path.read_bytes()
    frames, error = read_all(path)
    assert (len(frames), error) == (20, None)
    unnoticed = 0
    for end in range(len(data) // 2, len(data) - 1, 97):
        path.write_bytes(data[:end])
        _, error = read_all(path)
        unnoticed += error is None
    # A live recording states no size, so that a cut between two of its clusters cannot be detected.
    assert unnoticed <= (2 if streamed else 0)


def test_a_cut_between_packets_of_a_transport_stream_is_detected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.ts", 24, size=(192, 128))
    data = path.read_bytes()
    video = [at for at in range(0, len(data), 188) if data[at + 1] & 0x1F == 1 and data[at + 2] == 0]
    begins = [at for at in video if data[at + 1] & 0x40]
    inside = [at for at in video if at not in begins and at > len(data) // 2]
    assert len(inside) > 20
    for end in inside[::5]:
        path.write_bytes(data[:end])
        frames, error = read_all(path)
        assert isinstance(error, SourceCut)
        assert len(frames) == sum(at < end for at in begins) - 1


def test_an_incomplete_frame_is_dropped_if_the_decoder_does_not_mark_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.ts", 30, codec="libx265")
    whole, error = read_all(path)
    assert (len(whole), error) == (30, None)
    data = path.read_bytes()
    for share in (0.5, 0.6, 0.7, 0.8):
        path.write_bytes(data[: int(len(data) * share) // 188 * 188 + 77])
        frames, error = read_all(path)
        assert isinstance(error, SourceCut)
        assert len(frames) > 8
        assert all(np.array_equal(frame.image, whole[number_of(frame.image)].image) for frame in frames)


def test_an_mp4_cut_within_its_frames_gives_those_before(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 40, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames, error = read_all(path)
    assert isinstance(error, SourceCut)
    assert len(frames) > 15


def test_an_mp4_without_an_index_is_explained(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(SourceError, match="moov"):
        open_source(path)


@pytest.mark.parametrize("name", [*FILES, "clip.mp4", "clip.mov", "clip.flv", "clip.wmv", "clip.m2ts"])
@pytest.mark.parametrize("tail", [b"", bytes(3), bytes(188)])
def test_a_complete_file_is_never_called_cut(name: str, tail: bytes, tmp_path: Path) -> None:
    codec = {"clip.flv": "flv1", "clip.wmv": "wmv2"}.get(name, FILES.get(name, "libx264"))
    path = write_video(
        tmp_path / name, 10, codec=codec, options={"mpegts_m2ts_mode": "1"} if "m2" in name else None
    )
    if tail and name.endswith("ts"):
        return  # a transport stream is whole packets and nothing else
    path.write_bytes(path.read_bytes() + tail)
    frames, error = read_all(path)
    assert (len(frames), error) == (10, None)


def test_a_killed_recorder_leaves_a_readable_matroska_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", 10)
    data = bytearray(path.read_bytes())
    segment = data.index(b"\x18\x53\x80\x67") + 4
    data[segment : segment + 8] = b"\x01" + b"\xff" * 7  # the size as it is before the recorder ends
    path.write_bytes(data)
    assert is_cut(path, "matroska,webm") is False
    frames, error = read_all(path)
    assert (len(frames), error) == (10, None)


def test_an_avi_whose_header_counts_too_many_frames_is_complete(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 10, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"strh", 40), (b"avih", 24)):
        at = data.index(mark) + offset
        assert int.from_bytes(data[at : at + 4], "little") == 10
        data[at : at + 4] = (500).to_bytes(4, "little")
    path.write_bytes(data)
    frames, error = read_all(path)
    assert (len(frames), error) == (10, None)


@pytest.mark.parametrize("empty", [1, 30])
def test_an_avi_that_ends_with_repeated_frames_is_complete(empty: int, tmp_path: Path) -> None:
    """Recorders store a repeated frame as an empty chunk."""
    path = write_video(tmp_path / "clip.avi", 10, codec="mjpeg", pixels="yuvj420p")
    path.write_bytes(with_empty_chunks(path.read_bytes(), empty))
    frames, error = read_all(path)
    assert (len(frames), error) == (10, None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, error = read_all(path)
    assert isinstance(error, SourceCut)


def with_empty_chunks(data: bytes, count: int) -> bytes:
    """An AVI file with ``count`` empty frames after the last one, in its data, its index and its counts."""
    index = data.index(b"idx1")
    movi = data.index(b"movi") - 8
    entry = b"00dc" + bytes(4) + (index - movi - 8).to_bytes(4, "little") + bytes(4)
    grown = bytearray(data[:index] + (b"00dc" + bytes(4)) * count + data[index:] + entry * count)
    for at, more in (
        (4, 24 * count),
        (movi + 4, 8 * count),
        (index + 8 * count + 4, 16 * count),
        (data.index(b"strh") + 40, count),
        (data.index(b"avih") + 24, count),
    ):
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "little") + more).to_bytes(4, "little")
    return bytes(grown)


def test_an_opendml_file_cut_between_its_parts_is_cut(tmp_path: Path) -> None:
    """Its first part is complete; only the index of indexes shows that more followed."""
    path = write_video(tmp_path / "clip.avi", 10, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    junk = data.index(b"JUNK")
    entries = b"".join(
        offset.to_bytes(8, "little") + (100).to_bytes(4, "little") + (5).to_bytes(4, "little")
        for offset in (200, 10 * len(data))
    )
    table = (4).to_bytes(2, "little") + bytes(2) + (2).to_bytes(4, "little") + b"00dc" + bytes(12) + entries
    data[junk : junk + 8 + len(table)] = b"indx" + data[junk + 4 : junk + 8] + table
    path.write_bytes(data)
    assert is_cut(path, "avi")


MEASURED = {
    "clip.gif": ("gif", "rgb8"),
    "clip.flv": ("flv1", "yuv420p"),
    "clip.wmv": ("wmv2", "yuv420p"),
    "clip.mxf": ("mpeg2video", "yuv420p"),
    "clip.y4m": ("wrapped_avframe", "yuv420p"),
}


@pytest.mark.parametrize("share", [0.02, 0.35, 0.7])
@pytest.mark.parametrize("name", MEASURED)
def test_a_cut_of_rarer_containers_is_detected(name: str, share: float, tmp_path: Path) -> None:
    """FFmpeg reads them as shorter files, and of a GIF half a frame."""
    codec, pixels = MEASURED[name]
    path = write_video(tmp_path / name, 30, codec=codec, pixels=pixels)
    whole, error = read_all(path)
    assert (len(whole), error) == (30, None)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    frames, error = read_all(path)
    assert isinstance(error, SourceCut)
    if name == "clip.gif":
        assert all(np.array_equal(frame.image, whole[frame.index].image) for frame in frames)


def test_an_mxf_that_cannot_be_opened_without_its_end_is_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mxf", 30, codec="mpeg2video")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.98)])
    with pytest.raises(SourceCut, match="copy or record it again"):
        open_source(path)


def test_a_second_wmv_in_a_file_is_reported(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.wmv", 10, codec="wmv2")
    path.write_bytes(path.read_bytes() * 2)
    frames, error = read_all(path)
    assert len(frames) == 10
    assert "several recordings in one" in str(error)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.ivf", "libvpx"), ("clip.nut", "libx264"), ("clip.nut", "ffv1"), ("clip.y4m", "rawvideo")],
)
def test_what_was_joined_to_a_file_that_ffmpeg_reads_on_in_is_left_out(
    name: str, codec: str, tmp_path: Path
) -> None:
    """Of H.264 in NUT one frame of the second file came at a wrong time; YUV4MPEG may change its size."""
    container = "yuv4mpegpipe" if name.endswith("y4m") else None
    first = write_video(folder(tmp_path / "a") / name, 12, codec=codec, container=container)
    second = write_video(folder(tmp_path / "b") / name, 12, codec=codec, container=container, size=(128, 96))
    joined = tmp_path / name
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames, error = read_all(joined)
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert "several recordings in one, of which only the first 12 frames can be read" in str(error)
    frames, error = read_all(first)
    assert (len(frames), error) == (12, None)


def test_a_transport_stream_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was mapped: a file that another program shortens meanwhile would have ended this one (SIGBUS)."""
    monkeypatch.setattr(truncation, "_TS_PIECE", 3)
    path = write_video(tmp_path / "clip.ts", 12)
    assert not truncation.has_broken_structure(path, "mpegts")
    data = path.read_bytes()
    path.write_bytes(data[: 20 * 188] + b"xyz" + data[20 * 188 :])
    assert truncation.has_broken_structure(path, "mpegts")


def test_stamps_that_stand_still_after_a_joint_go_on(tmp_path: Path) -> None:
    """Joined MXF files: FFmpeg gives every frame of the second part the last time of the first."""
    path = write_video(tmp_path / "clip.mxf", 30, codec="mpeg2video")
    path.write_bytes(path.read_bytes() * 2)
    frames, error = read_all(path)
    assert (len(frames), error) == (60, None)
    times = [frame.pts_seconds or 0.0 for frame in frames]
    assert sum(later <= earlier for earlier, later in pairwise(times)) <= 1
    assert times[-1] == pytest.approx(59 / 25, abs=0.05)
