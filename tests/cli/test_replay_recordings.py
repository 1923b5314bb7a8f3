"""``streamseg replay`` of recorded live runs, every frame or as they came."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.capture.paced import PacedSource
from streamseg.cli import main
from streamseg.core.types import Frame, Roi, State
from streamseg.core.view import View
from streamseg.recording import Recorder
from streamseg.sinks import read_records
from tests.cli.conftest import HEIGHT, WIDTH, ClipWriter, count_frames, disc
from tests.recording.runs import HEADER, found_in, frame_of, pass_frame, record, wait_for
from tests.render.examples import outline_vessels, structure

REGION = Roi(20, 10, WIDTH, HEIGHT)


def screen(number: int) -> Any:
    image = np.full((HEIGHT + 30, WIDTH + 40, 3), 255, np.uint8)
    REGION.crop(image)[:] = disc(number)
    return image


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """25 frames, 25 a second, five of them without nerve, in two files."""
    recording, _ = record(tmp_path / "runs", [screen(n) for n in range(25)], roi=REGION, segment_seconds=0.5)
    return recording.path


def replay(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    code = main(["replay", *arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_every_frame_is_replayed_into_every_output(
    tmp_path: Path, recorded: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, lines = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    for source in (recorded, recorded.parent):
        arguments = [str(source), "--engine", str(engine), "--out", str(video), "--records", str(lines)]
        code, answer, err = replay([*arguments, "--force"], capsys)
        assert code == 0
        assert (answer["source"], answer["frames"], answer["error"]) == (recorded.name, 25, None)
        assert answer["states"] == {"no nerve": 5, "nerve": 20}
        assert (answer["roi"], answer["roi_from"]) == ([0, 0, WIDTH, HEIGHT], "source")
        assert "not ended properly" not in err
    assert count_frames(video) == 25
    _, frames = read_records(lines)
    assert [round(frame["pts"], 6) for frame in frames] == [round(0.000123 + n * 0.04, 6) for n in range(25)]


def test_the_masks_are_those_of_the_live_run(
    tmp_path: Path, recorded: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "o.jsonl"
    assert main(["replay", str(recorded), "--engine", str(engine), "--records", str(lines)]) == 0
    for number, frame in enumerate(read_records(lines)[1]):
        true = int((disc(number)[:, :, 0] > 127).sum())
        assert frame["area_px"] == pytest.approx(true, rel=0.03)


def test_a_run_that_was_killed_is_replayed_with_a_note(
    recorded: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"end"' not in line) + '{"type":"off')
    code, answer, err = replay([str(recorded), "--engine", str(engine)], capsys)
    assert (code, answer["frames"]) == (0, 25)
    noted = [line for line in err.splitlines() if "was not ended properly" in line]
    assert len(noted) == 1


def test_several_runs_are_clips_of_a_folder(
    tmp_path: Path, recorded: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(recorded.parent, [screen(n) for n in range(5)], roi=REGION)
    out = tmp_path / "out"
    code, answer, _ = replay([str(recorded.parent), "--engine", str(engine), "--records", str(out)], capsys)
    assert code == 0
    assert [clip["frames"] for clip in answer["clips"]] == [25, 5]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{path.name}.jsonl" for path in recorded.parent.iterdir()
    )


def test_a_recording_is_never_overwritten_by_its_replay(
    recorded: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in recorded.iterdir()}
    for option, name in (("--out", "original-0001.mp4"), ("--records", "records.jsonl")):
        for source in (recorded, recorded.parent):
            arguments = [str(source), "--engine", str(engine), option, str(recorded / name), "--force"]
            assert main(["replay", *arguments]) == 2
            assert "is a part of the source" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in recorded.iterdir()} == before


def interrupted_run(folder: Path) -> Recorder:
    """Half a second of frames, more than a second without any, half a second again; every other segmented."""
    recording = Recorder(folder, header={**HEADER, "age_budget_ms": 400}, min_free=0)
    recording.on_result(found_in(frame_of(-1, screen(1)), REGION))
    start = recording.anchor_ns
    for number in range(26):
        captured_ns = start + number * 40_000_000 + (1_300_000_000 if number > 12 else 0)
        frame = frame_of(number, screen(number), captured_ns=captured_ns)
        pass_frame(recording, frame, number, roi=REGION, segment=number % 2 == 0)
        wait_for(recording, number + 1)
        if number == 12:
            lost = View(100, 0, State.SOURCE_LOST, "no frame for 0.5 s")
            recording.on_view(lost, start + 1_000_000_000)
    recording.close()
    return recording


def test_a_run_is_repeated_as_it_was_with_its_gap(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = interrupted_run(tmp_path)
    began = time.monotonic()
    code, answer, err = replay([str(recording.path), "--engine", str(engine), "--as-recorded"], capsys)
    assert code == 0, err
    assert time.monotonic() - began >= 2.3
    then = answer["recorded"]
    assert (then["offered"], then["processed"], then["dropped"], then["absent"]) == (26, 13, 13, 0)
    assert then["seconds"] == pytest.approx(2.3)
    assert then["states"] == {"nerve": pytest.approx(1.417), "source lost": pytest.approx(0.872)}
    assert (answer["source"], answer["offered"]) == (recording.path.name, 26)
    assert answer["processed"] + answer["dropped"] == 26
    assert answer["states"]["source lost"] > 0.5
    assert {"p50", "p95", "p99", "max"} <= set(answer["age_ms"])
    assert answer["engine"]["name"] == "bright"
    assert "recorded" in err
    assert "source lost" in err


def test_frames_without_picture_are_said_to_be_absent(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    start = recording.anchor_ns
    recording.on_result(found_in(frame_of(-1, screen(1)), REGION))
    odd = np.zeros((50, 50, 3), np.uint8)  # of a size for which no region is known
    for number, image in enumerate((screen(1), odd, screen(3))):
        pass_frame(recording, frame_of(number, image, captured_ns=start + number), segment=False)
    recording.close()
    code, answer, err = replay([str(recording.path), "--engine", str(engine), "--as-recorded"], capsys)
    assert code == 0
    assert (answer["offered"], answer["recorded"]["offered"], answer["recorded"]["absent"]) == (2, 3, 1)
    assert "1 of the frames offered then have no image" in err


@pytest.mark.parametrize(
    "option",
    [
        ["--out", "x.mp4"],
        ["--records", "x.csv"],
        ["--max-frames", "3"],
        ["--roi", "none"],
        ["--no-vessels"],
    ],
)
def test_options_of_a_full_replay_do_not_fit_a_repetition(
    option: list[str], recorded: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(recorded), "--engine", str(engine), "--as-recorded", *option]) == 2
    assert f"does not allow {option[0]}" in capsys.readouterr().err


def test_a_recording_with_vessels_is_replayed_and_repeated(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recorder(tmp_path, header=HEADER, min_free=0)
    for number in range(6):
        frame = frame_of(number, screen(number), captured_ns=recording.anchor_ns + number * 50_000_000)
        found = found_in(frame, REGION)
        vessels = {} if number % 2 else {"vessel": structure(frame.image.shape[:2], (60, 50), (9, 9))}
        recording.on_result(replace(found, segmentation=replace(found.segmentation, others=vessels)))
        recording.on_frame(frame, frame.captured_ns)
        wait_for(recording, number + 1)
    recording.close()
    _, frames = read_records(recording.path / "records.jsonl")
    assert [sorted(frame["structures"]) for frame in frames] == [["nerve", "vessel"], ["nerve"]] * 3
    lines = (recording.path / "records.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["outlined"]["vessel"] == 3
    outline_vessels(monkeypatch)
    for option in ([], ["--as-recorded"]):
        code, answer, err = replay([str(recording.path), "--engine", str(engine), *option], capsys)
        assert code == 0, err
        assert answer["outlined"]["vessel"] == answer.get("processed", answer.get("frames")) > 0


def test_only_recorded_runs_can_be_repeated(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 3)
    assert main(["replay", str(clip), "--engine", str(engine), "--as-recorded"]) == 2
    assert "is not a recorded live run" in capsys.readouterr().err


def late_run(folder: Path, *, late_ns: int = 0) -> Recorder:
    """Four files of 10 frames each, 20 a second, that came late."""
    recording = Recorder(folder, header=HEADER, min_free=0, segment_seconds=0.5)
    recording.on_result(found_in(frame_of(-1, screen(1)), REGION))
    for number in range(40):
        captured_ns = recording.anchor_ns + number * 50_000_000
        frame = frame_of(number, screen(number), captured_ns=captured_ns)
        recording.on_frame(frame, captured_ns + late_ns)
        wait_for(recording, number + 1)
    recording.close()
    return recording


def test_frames_that_came_late_are_as_late_again(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = late_run(tmp_path, late_ns=400_000_000)
    code, answer, err = replay([str(recording.path), "--engine", str(engine), "--as-recorded"], capsys)
    assert code == 0, err
    assert answer["age_ms"]["p50"] > 400
    assert set(answer["states"]) <= {"starting", "segmentation lagging", "source lost", "source ended"}


def test_a_gap_of_a_missing_file_is_where_it_was(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = late_run(tmp_path)
    (recording.path / "original-0002.mp4").unlink()
    arrivals: list[tuple[int, float]] = []
    read = PacedSource.__next__

    def noted(source: PacedSource) -> Frame:
        frame = read(source)
        arrivals.append((frame.index, time.monotonic()))
        return frame

    monkeypatch.setattr(PacedSource, "__next__", noted)
    code, answer, _ = replay([str(recording.path), "--engine", str(engine), "--as-recorded"], capsys)
    assert code == 1, "a file is missing"
    assert answer["offered"] == 30
    gaps = [after[1] - before[1] for before, after in pairwise(arrivals)]
    assert max(gaps) == gaps[9] == pytest.approx(0.55, abs=0.15)
    assert sum(gaps) == pytest.approx(1.95, abs=0.3)
