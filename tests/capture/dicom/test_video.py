"""Video streams inside DICOM files, and series of single-frame files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HEVCMP51,
    MPEG2MPML,
    MPEG4HP41,
    UID,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
)

from streamseg.capture import list_clips, open_source
from streamseg.capture.dicom.reference import read_reference
from streamseg.core.errors import SourceCut, SourceError, UsageError
from tests.capture.dicoms import jpeg, write_dicom
from tests.capture.media import number_of, picture, read_all, write_video

STREAMS: dict[str, tuple[UID, str, str]] = {
    "h264": (MPEG4HP41, "clip.h264", "libx264"),
    "h264 in a transport stream": (MPEG4HP41, "clip.ts", "libx264"),
    "mp4": (MPEG4HP41, "clip.mp4", "libx264"),
    "mpeg-2": (MPEG2MPML, "clip.mpg", "mpeg2video"),
    "hevc": (HEVCMP51, "clip.hevc", "libx265"),
}


def video_inside(folder: Path, kind: str, count: int = 20, fragments: int = 1, **elements: object) -> Path:
    """A DICOM file with a numbered video stream as its pixel data."""
    syntax, file, codec = STREAMS[kind]
    stream = write_video(folder / file, count, codec=codec).read_bytes()
    stream += bytes(len(stream) % 2)

    def change(data: Dataset) -> None:
        data.NumberOfFrames = count
        data.PixelData = encapsulate([stream], fragments_per_frame=fragments)
        for keyword, value in elements.items():
            setattr(data, keyword, value)

    path = folder / "video.dcm"
    return write_dicom(
        path, [picture(0)], syntax=syntax, photometric="YBR_PARTIAL_420", encoded=[bytes(2)], change=change
    )


def identified(folder: Path, kind: str, **elements: object) -> Path:
    """A video in a DICOM file that results can refer to."""
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": "1.2.5"}
    return video_inside(folder, kind, SOPClassUID=UltrasoundMultiFrameImageStorage, **uids, **elements)


@pytest.mark.parametrize("kind", STREAMS)
def test_frames_know_their_place_in_the_file(tmp_path: Path, kind: str) -> None:
    path = identified(tmp_path, kind, FrameTime="50")
    with open_source(path, start_seconds=0.5) as source:
        assert [frame.file_index for frame in source] == list(range(10, 20))
    assert read_reference(path).frames == 20


@pytest.mark.parametrize("part", [0.3, 0.4, 0.5, 0.6, 0.8])
def test_after_damage_no_frame_is_at_a_wrong_place(tmp_path: Path, part: float) -> None:
    """Some damage takes frames from a stream without a trace: 15 of 20 came, and no error."""
    path = identified(tmp_path, "h264")
    whole = path.read_bytes()
    start = whole.index(b"\xfe\xff\x00\xe0", 300) + 8
    middle = start + int((len(whole) - start) * part)
    path.write_bytes(whole[:middle] + bytes(400) + whole[middle + 400 :])
    frames, error = read_all(path)
    try:
        assert read_reference(path).frames == len(frames)
    except SourceError:
        return
    assert isinstance(error, SourceError)
    last = [frame for frame in frames if frame.file_index is not None][-1].file_index
    assert [frame.file_index for frame in frames] == [n if n <= last else None for n in range(20)]


def test_a_header_that_states_another_number_of_frames_is_refused(tmp_path: Path) -> None:
    path = identified(tmp_path, "h264", NumberOfFrames=21)
    with pytest.raises(SourceError, match="has 20 pictures, its header states 21"):
        read_reference(path)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_video_inside_is_played_at_the_times_of_the_header(
    kind: str, fragments: int, tmp_path: Path
) -> None:
    path = video_inside(tmp_path, kind, fragments=fragments, FrameTime="50")
    with open_source(path) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(20))
    assert [frame.pts_seconds for frame in frames] == [float(Fraction(n, 20)) for n in range(20)]
    assert (source.info.frame_count, source.info.rate) == (20, 20)
    later, error = read_all(path, start_seconds=0.5)
    assert error is None
    assert [number_of(frame.image) for frame in later] == list(range(10, 20))
    with pytest.raises(UsageError, match="earlier start"):
        open_source(path, start_seconds=5.0)


def test_a_video_inside_has_spacing_and_square_pixels(tmp_path: Path) -> None:
    frames, error = read_all(video_inside(tmp_path, "h264", 3, PixelSpacing=["0.3", "0.2"]))
    assert error is None
    assert frames[0].image.shape[:2] == (96, 96)
    assert frames[0].spacing_mm == pytest.approx((0.2, 0.2))


def test_a_cut_video_inside_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    path = video_inside(tmp_path, "h264")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    frames, error = read_all(path)
    assert isinstance(error, SourceCut)
    assert len(frames) > 5


def single_frames(folder: Path, count: int, series: str = "1.2.3", **elements: object) -> Path:
    """A series of one file per frame, whose names are in another order than the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):

        def change(data: Dataset, number: int = number) -> None:
            data.SeriesInstanceUID, data.InstanceNumber = series, number + 1
            del data.NumberOfFrames
            for keyword, value in elements.items():
                setattr(data, keyword, value)

        image = picture(number)
        write_dicom(
            folder / f"IM{count - number:04d}",
            [image],
            syntax=JPEGBaseline8Bit,
            encoded=[jpeg(image)],
            change=change,
        )
    return folder


def test_a_series_of_single_frame_files_is_one_source(tmp_path: Path) -> None:
    folder = single_frames(tmp_path / "series", 12, FrameTime="40")
    assert list_clips(folder) == [str(folder)]
    with open_source(folder) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.pts_seconds for frame in frames] == [n * 0.04 for n in range(12)]
    assert (source.info.name, source.info.frame_count, source.info.rate) == ("series", 12, 25)
    later, _ = read_all(folder, start_seconds=0.4)
    assert [number_of(frame.image) for frame in later] == [10, 11]
    for start in (5.0, -1.0):
        with pytest.raises(UsageError):
            open_source(folder, start_seconds=start)


def test_a_damaged_file_of_a_series_is_skipped_and_reported(tmp_path: Path) -> None:
    folder = single_frames(tmp_path, 5)
    file = folder / "IM0003"
    file.write_bytes(file.read_bytes()[:-300])
    frames, error = read_all(folder)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 3, 4]
    assert isinstance(error, SourceError)
    assert "1 file that cannot be read" in str(error)


def test_files_of_a_series_that_vanish_while_it_is_read_are_counted(tmp_path: Path) -> None:
    """The run ended with "no such file", exit code 2, and the frames after it were lost."""
    folder = single_frames(tmp_path, 5)
    with open_source(folder) as source:
        found = [number_of(next(iter(source)).image)]
        (folder / "IM0003").unlink()
        with pytest.raises(SourceError, match=r"1 file that cannot be read; 4 frames were read"):
            found.extend(number_of(frame.image) for frame in source)
    assert found == [0, 1, 3, 4]


def test_frames_of_a_series_may_differ_in_size(tmp_path: Path) -> None:
    folder = single_frames(tmp_path, 4)
    old = dcmread(folder / "IM0003")

    def same_series(data: Dataset) -> None:
        data.SeriesInstanceUID, data.InstanceNumber = old.SeriesInstanceUID, old.InstanceNumber

    write_dicom(folder / "IM0003", [picture(1, 80, 120)], change=same_series)
    frames, error = read_all(folder)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert [frame.image.shape[:2] for frame in frames] == [(64, 96), (80, 120), (64, 96), (64, 96)]


def test_files_of_several_series_are_clips(tmp_path: Path) -> None:
    single_frames(tmp_path, 3)
    other = single_frames(tmp_path / "other", 1, series="1.2.4")
    (other / "IM0001").rename(tmp_path / "IM0009")
    other.rmdir()
    assert [Path(clip).name for clip in list_clips(tmp_path)] == ["IM0001", "IM0002", "IM0003", "IM0009"]


def test_the_tree_of_a_dicomdir_is_read(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    first = single_frames(tmp_path / "DICOM" / "PAT0" / "SE2", 3)
    second = tmp_path / "DICOM" / "PAT0" / "SE10"
    second.mkdir()
    cine = write_dicom(second / "IM0001", [picture(n) for n in range(4)])
    assert list_clips(tmp_path) == [str(first), str(cine)]
    with pytest.raises(UsageError, match=r"folder of clips \(2\)"):
        open_source(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list_clips(tmp_path) == [str(first), str(cine)]
