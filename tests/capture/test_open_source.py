"""What kind of source a path or an address is, and the messages if it is none."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.dataset import Dataset

from streamseg.capture import list_clips, open_source
from streamseg.capture.dicom.source import DicomSource
from streamseg.capture.images import ImageSource
from streamseg.capture.video.source import VideoSource
from streamseg.core.errors import SourceError, StreamsegError, UsageError
from streamseg.core.pixel_aspect import parse_aspect
from streamseg.core.types import Source
from tests.capture.dicoms import encoded, write_dicom
from tests.capture.media import picture, read_all, write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip10.mp4", 3)
    write_video(tmp_path / "clip9.mkv", 3)
    write_dicom(tmp_path / "IM0001", [picture(0)])
    write_dicom(tmp_path / "cine.dcm", [picture(0)])
    cv2.imwrite(str(tmp_path / "thumbnail.png"), picture(0))
    (tmp_path / "readme.txt").write_text("clips")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    return tmp_path


def test_the_kind_is_determined_by_suffix_and_content(folder: Path) -> None:
    kinds = {
        "clip10.mp4": VideoSource,
        "IM0001": DicomSource,
        "cine.dcm": DicomSource,
        "thumbnail.png": ImageSource,
    }
    (folder / "renamed.mp4").write_bytes((folder / "cine.dcm").read_bytes())
    (folder / "no suffix").write_bytes((folder / "clip9.mkv").read_bytes())
    for name, kind in (kinds | {"renamed.mp4": DicomSource, "no suffix": VideoSource}).items():
        with open_source(folder / name) as source:
            assert type(source) is kind
            assert isinstance(source, Source)


def test_dicom_without_preamble_is_recognised(tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "cine.dcm", [picture(0)]).read_bytes()
    (tmp_path / "old").write_bytes(data[132:])
    with open_source(tmp_path / "old") as source:
        assert type(source) is DicomSource


def test_clips_of_a_folder_are_listed_in_natural_order(folder: Path) -> None:
    assert [Path(clip).name for clip in list_clips(folder)] == [
        "cine.dcm",
        "clip9.mkv",
        "clip10.mp4",
        "IM0001",
    ]
    with pytest.raises(UsageError, match=r"folder of clips \(4\)"):
        open_source(folder)
    for clip in list_clips(folder):
        open_source(clip).close()


def test_any_other_address_is_listed_as_itself(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(0))
    assert list_clips(tmp_path) == [str(tmp_path)]
    for uri in ("phantom:?seed=1", "missing.mp4", str(tmp_path / "1.png")):
        assert list_clips(uri) == [uri]


def test_a_dicomdir_is_not_a_clip(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(SourceError, match="none of its files"):
        list_clips(tmp_path)


def test_an_unusable_folder_names_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for call in (open_source, list_clips):
        with pytest.raises(SourceError, match="looked for videos"):
            call(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".png", ".dcm", ".mkv", ""])
@pytest.mark.parametrize("content", [b"", b"x", b"just some text\n" * 400, bytes(5000)])
def test_an_unreadable_file_gives_one_clear_line(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"thing{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert "thing" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_missing_file_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no such file") as caught:
        open_source("/nowhere/clip.mp4")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("uri", ["bad\0name", "x" * 5000])
def test_impossible_paths_are_refused(uri: str) -> None:
    with pytest.raises(StreamsegError):
        open_source(uri)


def test_an_address_is_refused_without_its_password() -> None:
    with pytest.raises(UsageError, match="rtsp://") as caught:
        open_source("rtsp://user:secret@machine/stream")
    assert "secret" not in str(caught.value)
    assert "streamseg live" in str(caught.value)


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="nothing to read"):
        list_clips(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_reported(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 2)
    path.chmod(0)
    with pytest.raises(SourceError, match="permission"):
        open_source(path)


def test_opening_a_video_imports_neither_torch_nor_pydicom_and_opencv_first(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 2)
    code = (
        "import sys; from streamseg.capture import open_source; assert 'cv2' not in sys.modules;"
        f"list(open_source({str(path)!r})); order = list(sys.modules);"
        "assert order.index('cv2') < order.index('av'); assert not {'torch', 'pydicom'} & set(order)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_long_names_and_other_alphabets_work(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 2).rename(tmp_path / "épaule %03d : 左.mp4")
    with open_source(path) as source:
        assert len(list(source)) == 2
        assert source.info.name == path.name


def test_the_aspect_of_pixels_can_be_set_where_a_file_is_wrong(tmp_path: Path) -> None:
    wide, right = Fraction(16, 9), Fraction(4, 3)
    files = [
        write_video(tmp_path / "clip.mkv", 3, size=(96, 64), aspect=wide),
        write_dicom(tmp_path / "cine.dcm", [picture(0)] * 3),
        tmp_path / "image.png",
    ]
    Pillow.fromarray(picture(0)).save(files[2], dpi=(100, 170))
    for path in files:
        for sar, width in ((right, 128), (Fraction(1), 96)):
            with open_source(path, sar=sar) as source:
                assert source.info.width == width
                assert next(iter(source)).image.shape[:2] == (64, width)
    with pytest.raises(UsageError, match=r"phantom: are square; omit --sar"):
        open_source("phantom:", sar=right)


def test_aspects_are_read_as_ffmpeg_writes_them() -> None:
    assert [parse_aspect(text) for text in ("16:15", "16/15", "1", "1.5", None)] == [
        *(Fraction(16, 15), Fraction(16, 15), Fraction(1), Fraction(3, 2)),
        None,
    ]
    for text in ("0:1", "5:1", "1:0", "wide", "", "1e9", "4:3:2"):
        with pytest.raises(UsageError, match=r"give width:height of a pixel from 1:4 to 4:1"):
            parse_aspect(text)


def test_phantom_is_a_source_that_can_start_in_the_middle() -> None:
    with open_source("phantom:?seed=1&frames=4&fps=10&size=96x64") as source:
        whole = list(source)
    with open_source("phantom:?seed=1&frames=4&fps=10&size=96x64", start_seconds=0.2) as source:
        end = list(source)
    assert [frame.pts_seconds for frame in end] == [0.2, 0.3]
    assert [frame.index for frame in end] == [0, 1]
    np.testing.assert_array_equal(end[0].image, whole[2].image)


@pytest.mark.parametrize("name", ["clip.png", "clip.dcm", "clip.JPG", "clip"])
def test_the_content_decides_where_a_name_is_wrong(name: str, tmp_path: Path) -> None:
    frames, error = read_all(write_video(tmp_path / "a.mp4", 3).rename(tmp_path / name))
    assert (len(frames), error) == (3, None)
    cv2.imwrite(str(tmp_path / "b.png"), picture(1))
    frames, error = read_all((tmp_path / "b.png").rename(tmp_path / name))
    assert (len(frames), error) == (1, None)
    frames, error = read_all(encoded("jpeg", 2, tmp_path / name))
    assert (len(frames), error) == (2, None)


def dicom_disk(folder: Path) -> list[Path]:
    """Write a DICOMDIR and two cines in folders of their own; returns the cines."""
    records = []
    for number in range(2):
        name = ["DICOM", f"PAT{number}", "IM1"]
        path = folder.joinpath(*name)
        path.parent.mkdir(parents=True)
        write_dicom(path, [picture(number)] * 2)
        records.append(Dataset())
        records[-1].ReferencedFileID = name
    names = {"DirectoryRecordSequence": records}
    write_dicom(
        folder / "DICOMDIR",
        [np.zeros((2, 2), np.uint8)],
        change=lambda data: [setattr(data, *pair) for pair in names.items()],
    )
    return sorted(folder.rglob("IM1"))


def test_files_that_a_dicomdir_lists_and_that_are_missing_are_counted(tmp_path: Path) -> None:
    disk, said = tmp_path, list[str]()
    first, second = dicom_disk(disk)
    assert list_clips(disk, say=said.append) == [str(first), str(second)]
    assert said == []
    first.unlink()
    assert list_clips(disk, say=said.append) == [str(second)]
    assert said == [f"{disk} lacks 1 file that its DICOMDIR lists; copy the whole disk"]
    second.unlink()
    with pytest.raises(SourceError, match="has a DICOMDIR but none of its files; copy the whole disk"):
        list_clips(disk)
