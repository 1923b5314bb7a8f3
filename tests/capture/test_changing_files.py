"""Recordings that somebody copies, overwrites or deletes while they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import pytest

from streamseg.capture import open_source
from streamseg.core.errors import SourceCut, StreamsegError
from tests.capture.dicom.test_video import single_frames
from tests.capture.dicoms import write_dicom
from tests.capture.media import number_of, picture, write_video

COUNT, SIZE = 60, (320, 240)
Change = Callable[[Path, bytes, bytes], object]


def grow(path: Path, there: bytes, whole: bytes) -> None:
    with path.open("ab") as file:
        file.write(whole[len(there) :])


def overwrite(path: Path, there: bytes, whole: bytes) -> None:
    """As `cp` does: another recording into the same file."""
    with path.open("r+b") as file:
        file.write(whole[len(whole) // 3 :] + whole[: len(whole) // 3])
    later = path.stat().st_mtime_ns + 10_000_000  # the clock of a file system ticks slowly
    os.utime(path, ns=(later, later))


def overwrite_with_more(path: Path, there: bytes, whole: bytes) -> None:
    path.write_bytes(whole[::-1] * 2)


def cut(path: Path, there: bytes, whole: bytes) -> None:
    os.truncate(path, len(there) // 2)


def replace(path: Path, there: bytes, whole: bytes) -> None:
    (path.parent / "new").write_bytes(whole[: len(whole) // 3])
    (path.parent / "new").rename(path)


def delete(path: Path, there: bytes, whole: bytes) -> None:
    path.unlink()


def read_while(path: Path, change: Callable[[], object], at: int = 3) -> tuple[list[int], str]:
    """The numbers of the frames, and what was said in the end; ``change`` happens after some frames."""
    numbers: list[int] = []
    try:
        with open_source(path) as source:
            for frame in source:
                numbers.append(number_of(frame.image))
                if len(numbers) == at:
                    change()
    except StreamsegError as error:
        return numbers, str(error)
    return numbers, ""


def video(path: Path, name: str, codec: str) -> bytes:
    return write_video(path / name, COUNT, codec=codec, size=SIZE).read_bytes()


def dicom(path: Path, name: str, kind: str) -> bytes:
    return write_dicom(path / name, [picture(n, 240, 320) for n in range(COUNT)]).read_bytes()


KINDS: Sequence[tuple[str, Callable[[Path, str, str], bytes], str]] = (
    ("clip.mkv", video, "libx264"),
    ("clip.ts", video, "libx264"),
    ("clip.y4m", video, "wrapped_avframe"),
    ("clip.avi", video, "mpeg4"),
    ("clip.dcm", dicom, "plain"),
)


@pytest.mark.parametrize(("name", "write", "codec"), KINDS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (grow, "grew while it was read"),
        (overwrite, "was overwritten while"),
        (overwrite_with_more, "was overwritten while"),
        (cut, "was overwritten while"),
        (replace, "was deleted, renamed or replaced"),
        (delete, "was deleted, renamed or replaced"),
    ],
)
def test_a_file_that_changes_gives_its_own_frames_and_says_so(
    name: str, write: Callable[[Path, str, str], bytes], codec: str, change: Change, said: str, tmp_path: Path
) -> None:
    """A file that was overwritten gave frames of both recordings, exit code 0."""
    whole = write(tmp_path, name, codec)
    there = whole[: len(whole) * 2 // 3] if change is grow else whole
    path = tmp_path / name
    path.write_bytes(there)
    numbers, message = read_while(path, lambda: change(path, there, whole))
    assert said in message
    assert numbers == list(range(len(numbers))), "its own frames, in order"
    assert len(numbers) == 3 if "overwritten" in said else len(numbers) >= 30


def test_a_file_that_nobody_changes_is_not_said_to_change(tmp_path: Path) -> None:
    video(tmp_path, "clip.mkv", "libx264")
    assert read_while(tmp_path / "clip.mkv", lambda: None) == (list(range(COUNT)), "")


def test_images_that_come_into_a_folder_later_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture(number))

    def add() -> None:
        for number in (6, 7):
            cv2.imwrite(str(folder / f"{number:02d}.png"), picture(number))
        (folder / "result.mp4").write_bytes(b"")

    numbers, said = read_while(folder, add)
    assert numbers == list(range(6))
    assert "2 more files" in said


def test_an_image_that_is_copied_meanwhile_is_no_frame(tmp_path: Path) -> None:
    """Its first half was there."""
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), picture(number))
    half = (tmp_path / "04.png").read_bytes()
    numbers, said = read_while(tmp_path, lambda: (tmp_path / "04.png").write_bytes(half[: len(half) // 2]))
    assert numbers == [0, 1, 2, 3]
    assert "04.png" in said


def test_a_file_that_is_cut_and_stays_so_is_still_called_cut(tmp_path: Path) -> None:
    whole = video(tmp_path, "clip.mkv", "libx264")
    (tmp_path / "clip.mkv").write_bytes(whole[: len(whole) // 2])
    with open_source(tmp_path / "clip.mkv") as source, pytest.raises(SourceCut):
        list(source)


def test_a_dicom_series_that_changes_says_so(tmp_path: Path) -> None:
    """A file of another series in its middle passed for the next frame, and later files were left out."""
    folder, others = single_frames(tmp_path / "a", 6), single_frames(tmp_path / "b", 6, series="1.2.4")

    def exchange() -> None:
        (others / "IM0001").replace(folder / "IM0002")

    numbers, said = read_while(folder, exchange)
    assert len(numbers) == 5
    assert "1 file that cannot be read" in said
    folder = single_frames(tmp_path / "c", 6)
    last = (folder / "IM0001").read_bytes()
    (folder / "IM0001").unlink()
    numbers, said = read_while(folder, lambda: (folder / "IM0001").write_bytes(last))
    assert (len(numbers), "got 1 more file" in said) == (5, True)
