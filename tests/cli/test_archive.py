"""``streamseg archive`` with processes on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.optional import needs

needs("pyarrow")

import pyarrow.parquet as pq  # noqa: E402

from streamseg import __version__  # noqa: E402
from streamseg.archive.folder import ArchiveFolder  # noqa: E402
from streamseg.archive.records import METADATA, SCHEMA, read_about  # noqa: E402
from streamseg.archive.segment import content_hash  # noqa: E402
from streamseg.cli import main  # noqa: E402
from streamseg.sinks import read_records  # noqa: E402
from tests.cli.conftest import ClipWriter, count_frames  # noqa: E402
from tests.waiting import wait_for  # noqa: E402


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    code = main(["archive", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_a_folder_with_a_broken_clip_then_once_more(
    engine: Path, write_clip: ClipWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [write_clip(tmp_path / "in" / name, 12) for name in ("a.mp4", "below/b.mp4")]
    (tmp_path / "in" / "c.mp4").write_bytes(b"no video" * 50)
    arguments = (tmp_path / "in", "--out", tmp_path / "out", "--engine", engine, "--masks", "--video")
    code, found, err = run(capsys, *arguments, "--workers", 1)
    assert code == 1
    assert "1 clip failed, see" in err
    assert found["run"] == {"clips": 2, "frames": 24, "skipped": 0, "seconds": found["run"]["seconds"]}
    assert (found["clips"], found["frames"], found["failed"]) == (2, 24, 1)
    assert sum(found["states"].values()) == 24
    assert found["structures"]["nerve"]["outlined"] == found["states"]["nerve"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 24
    [failed] = pq.read_table(tmp_path / "out" / "failed.parquet").to_pylist()
    assert failed["source"].endswith("c.mp4")
    assert failed["frames"] == failed["workers_lost"] == 0
    assert "c.mp4" in failed["reason"]

    table = pq.read_table(tmp_path / "out" / "clips")
    assert table.num_rows == 24
    [file] = (tmp_path / "out" / "clips").glob("a-*.parquet")
    about = read_about(file)
    assert about["engine"] == found["engine"]
    assert (about["version"], about["frames"], about["source"]) == (__version__, 12, str(clips[0].resolve()))
    assert about["source_sha256"] == content_hash(str(clips[0]))[0]
    assert pq.read_schema(file).remove_metadata() == SCHEMA
    [video] = (tmp_path / "out" / "videos").glob("a-*.mp4")
    assert count_frames(video) == 12
    assert [path.name for path in (tmp_path / "out" / "work").iterdir() if path.is_dir()] == []

    # The records are those of replay.
    assert (
        main(["replay", str(clips[0]), "--engine", str(engine), "--records", str(tmp_path / "a.jsonl")]) == 0
    )
    capsys.readouterr()
    for row, frame in zip(
        pq.read_table(file).to_pylist(), read_records(tmp_path / "a.jsonl")[1], strict=True
    ):
        assert (row["frame"], row["time_s"], row["state"]) == (frame["index"], frame["pts"], frame["state"])
        assert row["area_px"] == frame["area_px"] == sum(map(int, row["mask_rle"].split()[1::2]))
        assert [row["centroid_x"], row["centroid_y"]] == (frame["centroid"] or [None, None])
        assert row["confidence"] == frame["confidence"]
        assert row["polygons"] == [list(chain(*polygon)) for polygon in frame["polygons"]]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "clips").iterdir()}
    code, found, err = run(capsys, *arguments)
    assert (code, found["run"]["clips"], found["run"]["skipped"], found["clips"]) == (1, 0, 3, 2)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "clips").iterdir()}
    write_clip(tmp_path / "in" / "c.mp4", 5)
    code, found, err = run(capsys, *arguments, "--retry-failed", "--workers", 1)
    assert (code, found["run"]["clips"], found["failed"], found["frames"]) == (0, 1, 0, 29)


def test_a_cut_clip_is_failed_with_the_frames_before_the_cut(
    engine: Path, write_clip: ClipWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_clip(tmp_path / "whole.mkv", 200).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cut.mkv").write_bytes(data[: len(data) // 2])
    code, found, _ = run(
        capsys, tmp_path / "in", "--out", tmp_path / "out", "--engine", engine, "--workers", 1
    )
    assert (code, found["clips"], found["failed"]) == (1, 0, 1)
    [row] = pq.read_table(tmp_path / "out" / "failed.parquet").to_pylist()
    [file] = (tmp_path / "out" / "failed").glob("*.parquet")
    assert 0 < row["frames"] < 200
    assert pq.read_metadata(file).num_rows == row["frames"]
    assert METADATA in pq.read_metadata(file).metadata


def test_another_engine_or_other_options_need_another_folder(
    engine: Path, write_clip: ClipWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "a.mp4", 5)
    folder = ArchiveFolder(tmp_path / "out")
    folder.root.mkdir()
    (folder.root / "archive.json").write_text(
        '{"format": "streamseg-archive-1", "engine": {"name": "other"}}'
    )
    code, _, err = run(capsys, clip, "--out", folder.root, "--engine", engine)
    assert code == 2
    assert "holds clips made with engine {'name': 'other'}" in err
    assert "choose another --out" in err


def start(*arguments: object) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "streamseg", "archive", *map(str, arguments)]
    return subprocess.Popen(call, stderr=subprocess.PIPE, text=True)


def workers_of(pid: int) -> list[int]:
    """Processes that a process has started and that run our worker; not the one that tracks its resources."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return [child for child in found if b"spawn_main" in _command(child)]


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_killed_workers_and_killed_runs_leave_neither_doubles_nor_gaps(
    engine: Path, write_clip: ClipWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        write_clip(tmp_path / "in" / f"{number}.mp4", 40)
    out = tmp_path / "out"
    arguments = (tmp_path / "in", "--out", out, "--engine", engine, "--workers", 2)
    published = 0
    for _ in range(2):  # twice kill -9 of the run, in the middle of it
        process = start(*arguments)
        try:
            wait_for(
                lambda before=published: len(list((out / "clips").glob("*.parquet"))) > before, "a clip", 120
            )
            children = workers_of(process.pid)
            assert len(children) == 2
        finally:
            process.kill()
            process.communicate()
        wait_for(lambda pids=children: not any(_command(pid) for pid in pids))  # they leave with it
        published = len(list((out / "clips").glob("*.parquet")))
    process = start(*arguments)
    try:
        wait_for(lambda: len(workers_of(process.pid)) == 2)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, err
    code, found, _ = run(capsys, *arguments)
    assert (code, found["run"]["skipped"], found["clips"], found["frames"]) == (0, 12, 12, 480)
    rows = pq.read_table(out / "clips", columns=["source", "frame"]).to_pylist()
    assert len({(row["source"], row["frame"]) for row in rows}) == len(rows) == 480
    assert [path for path in (out / "work").iterdir() if path.is_dir()] == []
