"""``streamseg replay`` from its arguments to its files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from streamseg.capture import open_source
from streamseg.cli import main
from streamseg.sinks import read_records
from tests.cli.conftest import RATE, ClipWriter, count_frames
from tests.full_disk import largest_file
from tests.render.examples import outline_vessels

STREAMSEG = [sys.executable, "-m", "streamseg"]


def replay_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, the object on stdout, and stderr. The object must be all of stdout."""
    code = main(["replay", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    return code, json.loads(out), err


def test_every_frame_arrives_in_every_output(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 20)
    video, lines, table = tmp_path / "new" / "o.mp4", tmp_path / "o.jsonl", tmp_path / "o.csv"
    code, answer, err = replay_json(
        [
            *[str(clip), "--engine", str(engine), "--roi", "none", "--out", str(video)],
            *["--records", str(lines), "--records", str(table)],
        ],
        capsys,
    )
    assert code == 0
    assert set(answer) >= {"source", "frames", "seconds", "fps", "engine", "roi", "states", "stages_ms"}
    assert (answer["source"], answer["frames"], answer["error"]) == ("clip.mp4", 20, None)
    assert answer["states"] == {"no nerve": 4, "nerve": 16}
    assert answer["engine"]["name"] == "bright"
    assert [output["path"] for output in answer["outputs"]] == [str(video), str(lines), str(table)]
    assert all(output["bytes"] == Path(output["path"]).stat().st_size for output in answer["outputs"])
    assert {"decode", "preprocess", "infer", "postprocess"} <= set(answer["stages_ms"])
    assert count_frames(video) == 20
    header, frames = read_records(lines)
    assert header["source"] == "clip.mp4"
    assert header["engine"]["sha256"] == answer["engine"]["sha256"]
    assert [frame["pts"] for frame in frames] == pytest.approx([i / RATE for i in range(20)])
    with table.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 20
    assert "p99" in err
    assert f"wrote {video} (20 frames" in err


def test_vessels_are_drawn_unless_they_are_hidden_and_recorded_in_any_case(
    tmp_path: Path,
    engine: Path,
    write_clip: ClipWriter,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outline_vessels(monkeypatch)
    clip = write_clip(tmp_path / "clip.mp4", 10)
    blue = {}
    for option in ("--vessels", "--no-vessels"):
        video, lines = tmp_path / f"{option}.mp4", tmp_path / f"{option}.jsonl"
        code, answer, err = replay_json(
            [
                *[str(clip), "--engine", str(engine), "--roi", "none", option],
                *["--out", str(video), "--records", str(lines)],
            ],
            capsys,
        )
        assert code == 0
        assert answer["outlined"] == {"nerve": answer["states"].get("nerve", 0), "vessel": 10}
        assert f"; outlined: nerve {answer['outlined']['nerve']}, vessel 10" in err
        assert all(frame["structures"]["vessel"]["polygons"] for frame in read_records(lines)[1])
        with open_source(str(video)) as source:
            picture = next(iter(source)).image.astype(int)
        blue[option] = int((picture[..., 0] - picture[..., 2] > 80).sum())
    assert blue["--vessels"] > 50
    assert blue["--no-vessels"] == 0


def test_without_outputs_it_shows_the_latencies(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 10)
    assert main(["replay", str(clip), "--engine", str(engine)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "infer" in err
    assert "clip.mkv: 10 frames in" in err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_frames_and_start_are_limited(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, lines = write_clip(tmp_path / "clip.mp4", 30), tmp_path / "o.jsonl"
    arguments = [str(clip), "--engine", str(engine), "--roi", "none", "--records", str(lines)]
    code, answer, _ = replay_json([*arguments, "--start", "0.5", "--max-frames", "7"], capsys)
    assert (code, answer["frames"]) == (0, 7)
    assert read_records(lines)[1][0]["pts"] == pytest.approx(13 / RATE)


def test_a_given_region_is_used(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 5)
    code, answer, _ = replay_json([str(clip), "--engine", str(engine), "--roi", "0,0,40,20"], capsys)
    assert (code, answer["roi"], answer["roi_from"]) == (0, [0, 0, 40, 20], "given")
    assert answer["states"].get("no nerve", 0) >= 1


def test_pictures_of_another_size_than_the_region_was_found_in_are_taken_whole(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, lines = tmp_path / "pictures", tmp_path / "o.jsonl"
    folder.mkdir()
    speckle = np.random.default_rng(0).integers(30, 200, (200, 300), np.uint8)
    screen = np.zeros((300, 400), np.uint8)
    screen[50:250, 50:350] = speckle
    for index, picture in enumerate([screen, screen, speckle]):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    arguments = [
        str(folder),
        "--engine",
        str(engine),
        "--records",
        str(lines),
        "--out",
        str(tmp_path / "o.mp4"),
    ]
    code, answer, err = replay_json(arguments, capsys)
    assert (code, answer["frames"], answer["roi_from"]) == (0, 3, "found")
    assert "frame 2 is 300x200; frames of another size are taken whole" in err
    assert count_frames(tmp_path / "o.mp4") == 3


def test_phantom_is_an_image_without_a_screen(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, _ = replay_json(["phantom:?frames=5&size=160x120", "--engine", str(engine)], capsys)
    assert (code, answer["frames"], answer["roi"]) == (0, 5, None)


def test_an_output_is_overwritten_only_when_forced(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, lines = write_clip(tmp_path / "clip.mp4", 5), tmp_path / "o.jsonl"
    lines.write_text("precious")
    arguments = ["replay", str(clip), "--engine", str(engine), "--roi", "none", "--records", str(lines)]
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert lines.read_text() == "precious"
    assert main([*arguments, "--force"]) == 0
    assert len(read_records(lines)[1]) == 5


def make_bad(kind: str, folder: Path, write_clip: ClipWriter) -> Path:
    """A source that cannot be replayed."""
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "unindexed":
        data = write_clip(folder / "whole.mp4").read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pixelless":
        path = folder / "pixelless.dcm"
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
        dataset.PatientName = "Secret^Name"
        dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("kind", "code"),
    [("missing", 2), ("empty", 1), ("text", 1), ("unindexed", 1), ("folder", 1), ("pixelless", 1)],
)
def test_a_bad_source_is_one_line_and_leaves_nothing(
    kind: str,
    code: int,
    tmp_path: Path,
    engine: Path,
    write_clip: ClipWriter,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, out = make_bad(kind, tmp_path, write_clip), tmp_path / "out"
    assert main(["replay", str(source), "--engine", str(engine), "--out", str(out / "o.mp4")]) == code
    stdout, err = capfd.readouterr()
    assert stdout == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert source.name in err
    assert "unexpected" not in err
    assert "Secret" not in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--roi", "0,0,97,64"], 2, "reaches outside the frame of 96x64"),
        (["--roi", "somewhere"], 2, "auto or none"),
        (["--engine", "nonesuch"], 2, "nonesuch"),
        (["--out", "o.gif"], 2, "choose one of .mp4"),
        (["--out", "/dev/null/o.mp4"], 2, "is a file, not a folder"),
        (["--start", "999"], 2, "earlier start"),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    engine: Path,
    write_clip: ClipWriter,
    capfd: pytest.CaptureFixture[str],
) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    assert main(["replay", str(clip), "--engine", str(engine), *arguments]) == code
    stdout, err = capfd.readouterr()
    assert stdout == ""
    assert err.count("\n") == 1
    assert said in err


def test_a_damaged_engine_is_refused(
    tmp_path: Path, write_clip: ClipWriter, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, engine = write_clip(tmp_path / "clip.mp4"), tmp_path / "engine"
    engine.mkdir()
    (engine / "manifest.json").write_text('{"format": "streamseg-engine-1"}')
    assert main(["replay", str(clip), "--engine", str(engine)]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "manifest" in err


def test_a_cut_source_is_finished_up_to_the_cut(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_clip(tmp_path / "whole.mkv", 100).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    video, lines = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    code, answer, err = replay_json(
        [
            *[str(cut), "--engine", str(engine), "--roi", "none"],
            *["--out", str(video), "--records", str(lines)],
        ],
        capsys,
    )
    assert code == 1
    assert 30 < answer["frames"] < 70
    assert "cut.mkv" in answer["error"]
    assert answer["stages_ms"]["infer"]["p50"] > 0
    assert err.splitlines()[-1] == f"error: {answer['error']}"
    assert count_frames(video) == len(read_records(lines)[1]) == answer["frames"]


def test_a_folder_of_clips_is_replayed_one_by_one(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    write_clip(folder / "a.mp4", 6)
    (folder / "b.mp4").write_bytes(b"no video at all")
    write_clip(folder / "c.mkv", 4)
    code, answer, err = replay_json(
        [str(folder), "--engine", str(engine), "--roi", "none", "--out", str(out), "--records", str(out)],
        capsys,
    )
    assert code == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.jsonl", "a.mp4", "c.jsonl", "c.mp4"]
    assert (count_frames(out / "a.mp4"), count_frames(out / "c.mp4")) == (6, 4)
    assert (answer["frames"], len(answer["clips"]), len(answer["outputs"])) == (10, 3, 4)
    assert [clip["error"] is None for clip in answer["clips"]] == [True, False, True]
    assert "b.mp4" in answer["error"]
    assert err.splitlines()[-1].startswith("error: 1 of 3 clips failed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_files(number: signal.Signals, code: int, tmp_path: Path, engine: Path) -> None:
    video, lines = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    source = "phantom:?frames=100000&size=160x120"
    command = [*STREAMSEG, "replay", source, "--engine", str(engine), "--out", str(video)]
    with subprocess.Popen(
        [*command, "--records", str(lines), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not lines.exists() or lines.read_bytes().count(b"\n") < 10:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    answer = json.loads(out)
    assert answer["error"] is None
    assert count_frames(video) == len(read_records(lines)[1]) == answer["frames"] >= 9
    said = err.splitlines()[-1]
    assert said.startswith(f"stopped by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl-C'} after ")
    assert str(video) in said
    assert "Traceback" not in err


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, engine: Path) -> None:
    lines = tmp_path / "o.jsonl"
    done = subprocess.run(
        [
            *[*STREAMSEG, "replay", "phantom:?frames=500&size=160x120", "--engine", str(engine)],
            *["--records", str(lines), "--json"],
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=largest_file(20_000),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot write {lines}: ")
    answer = json.loads(done.stdout)
    assert 0 < len(read_records(lines)[1]) == answer["outputs"][0]["frames"] < 500


def test_the_default_engine_runs_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from streamseg.cli import main\n"
        f"code = main(['replay', 'phantom:?frames=3', '--out', {str(tmp_path / 'o.mp4')!r}, '--json'])\n"
        "heavy = ('torch', 'nncf', 'streamseg.training', 'streamseg.datasets', 'streamseg.nets')\n"
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_a_region_outside_the_frames_is_found_before_the_engine_is_loaded(
    tmp_path: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 3)
    assert main(["replay", str(clip), "--engine", "/no/such/engine", "--roi", "50,0,50,64"]) == 2
    assert "ROI 50,0,50,64 reaches outside the frame of 96x64" in capsys.readouterr().err


def test_a_replay_whose_messages_nobody_reads_goes_on_to_its_end(
    tmp_path: Path, engine: Path, write_clip: ClipWriter
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 100)
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-m",
        "streamseg",
        "replay",
        str(clip),
        "--engine",
        str(engine),
        "--roi",
        "none",
    ]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=writer, text=True) as process:
        os.close(reader)
        out, _ = process.communicate(timeout=60)
    os.close(writer)
    assert (process.returncode, json.loads(out)["frames"]) == (0, 100)


_PEAK = """
import sys
from streamseg.cli import main
code = main(sys.argv[1:])
# Not ru_maxrss, which a process inherits from the one that started it.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(code, int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux reports the peak memory")
def test_the_largest_image_is_replayed_in_less_than_a_gigabyte(tmp_path: Path) -> None:
    """88 megapixels with a nerve: its map, outline and video each took hundreds of megabytes once more."""
    with open_source("phantom:?nerve=always&frames=1&size=580x420") as source:
        small = next(iter(source)).image
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), cv2.resize(small, (11_000, 8_000)), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    records = tmp_path / "r.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, "replay", large, "--out", tmp_path / "v.mp4", "--records", records],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    code, megabytes = (int(word) for word in done.stdout.split()[-2:])
    assert code == 0
    assert json.loads(records.read_text().splitlines()[1])["state"] == "nerve"
    assert megabytes < 1000
