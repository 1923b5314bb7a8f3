"""Recordings that end before their time: a process that is killed, a disk that fills."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.capture.recording.reader import read_recording
from streamseg.core.errors import SinkError, SourceError
from streamseg.recording import writer
from streamseg.recording.writer import Recorder
from tests.capture.media import number_of, read_all
from tests.recording.runs import HEADER, found_in, frame_of, pass_frame, wait_for

ROOT = Path(__file__).parents[2]


def test_a_disk_without_room_is_refused_and_one_that_fills_ends_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SinkError, match=r"MB free on the disk, \d+ MB must stay free; make some room"):
        Recorder(tmp_path / "new", header=HEADER, min_free=1 << 60)
    monkeypatch.setattr(writer, "CHECK_NS", 0)
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    recording.on_result(found_in(frame_of(-1)))
    pass_frame(recording, frame_of(0), 1)
    wait_for(recording, 1)
    recording._min_free = 1 << 60
    pass_frame(recording, frame_of(1), 2)
    recording.close()
    assert "MB free on the disk" in recording.status()
    assert recording.status().startswith("recording stopped: only ")
    frames, error = read_all(recording.path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == [0]


CHILD = """
import shutil, sys
from pathlib import Path
import numpy as np
from streamseg.recording.writer import Recorder
from tests.full_disk import largest_file
from tests.recording.runs import HEADER, found_in, frame_of, pass_frame, screen, wait_for
folder, frames, limit, keep = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
recording = Recorder(folder, header=HEADER, min_free=0, segment_seconds=2.0)
if limit:
    largest_file(limit)()
recording.on_result(found_in(frame_of(-1)))
noise = np.random.default_rng(0)
for number in range(frames):
    image = screen(number)
    if keep or limit:
        image[40:94, 40:136] = noise.integers(0, 255, (54, 96, 3), np.uint8)
    frame = frame_of(number, image, captured_ns=recording.anchor_ns + number * 40_000_000)
    pass_frame(recording, frame, number)
    wait_for(recording, number + 1, 0.5)
    print(number, recording.status(), flush=True)
    if recording.status().startswith("recording stopped"):
        break
recording.close()
if keep:
    shutil.copytree(folder, keep)
"""


def child(folder: Path, frames: int, limit: int = 0, keep: str = "", wrap: tuple[str, ...] = ()) -> list[str]:
    return [*wrap, sys.executable, "-c", CHILD, str(folder), str(frames), str(limit), keep]


@pytest.mark.parametrize(
    "after", [pytest.param(3, marks=pytest.mark.slow), 30, pytest.param(130, marks=pytest.mark.slow)]
)
def test_a_killed_process_loses_less_than_two_seconds(tmp_path: Path, after: int) -> None:
    process = subprocess.Popen(child(tmp_path, 100_000), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    written = -1
    for line in process.stdout:
        written = int(line.split()[0])
        if written >= after:
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait(20) == -signal.SIGKILL
    if after == 3:  # killed within the first quarter of a second: there may be no picture at all
        frames, error = read_all(tmp_path)
        assert error is None or isinstance(error, SourceError)
        return
    frames, error = read_all(tmp_path)
    assert error is None
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= written - 50
    (folder,) = tmp_path.iterdir()
    offered = read_recording(folder).offered
    assert [frame.index for frame in offered] == list(range(len(offered)))
    assert len(offered) > written - 5


def unshared() -> bool:
    """Whether a small file system can be mounted here."""
    if shutil.which("unshare") is None:
        return False
    script = "mount -t tmpfs -o size=1m tmpfs /mnt"
    return (
        subprocess.run(["unshare", "-rm", "sh", "-c", script], check=False, capture_output=True).returncode
        == 0
    )


@pytest.mark.skipif(not unshared(), reason="no file system of its own can be mounted here (unshare -rm)")
def test_a_full_disk_ends_the_recording_and_leaves_what_was_finished(tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs {disk} && exec "$@"'
    wrap = ("unshare", "-rm", "sh", "-c", script, "sh")
    done = subprocess.run(
        child(disk, 5000, keep=str(kept), wrap=wrap),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last, status = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert status == "recording stopped: disk full"
    frames, error = read_all(kept)
    assert error is None
    assert int(last) - 50 <= len(frames) <= int(last) + 1
    assert len(frames) > 20


def test_a_limit_on_file_sizes_ends_the_recording_as_well(tmp_path: Path) -> None:
    done = subprocess.run(
        child(tmp_path, 5000, limit=200_000),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("recording stopped: file too large")
    frames, error = read_all(tmp_path)
    assert error is None
    assert len(frames) > 10
