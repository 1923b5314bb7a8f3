"""``streamseg select`` and ``streamseg import`` as commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from streamseg.annotation.candidates import ReadOptions, read_candidates
from streamseg.annotation.frames import Selection
from streamseg.backends import load_backend
from streamseg.capture.screen.region import ImageRegion
from streamseg.cli import main
from streamseg.core.errors import UsageError
from streamseg.core.types import InputSpec, Roi
from streamseg.datasets import open_dataset
from streamseg.phantom import render_still
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.trainer import read_absent
from tests.capture.dicoms import write_dicom

SMALL = "phantom:?seed=1&frames=40&size=96x64"


def select(engine: Path, out: Path, *arguments: str) -> int:
    return main(["select", *arguments, "--out", str(out), "--engine", str(engine)])


def test_select_writes_frames_drafts_tables_and_a_contact_sheet(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "to-label"
    assert select(engine, out, SMALL, "phantom:?seed=2&frames=40&size=96x64", "--frames", "4") == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert f"then: streamseg import {out} --out data" in said.err
    selection = Selection.read(out)
    assert len(selection.frames) == 4
    assert len({frame.subject for frame in selection.frames}) == 2
    for frame in selection.frames:
        image = cv2.imread(str(selection.image(frame)), cv2.IMREAD_UNCHANGED)
        assert image.shape == (64, 96)
        assert frame.reason
        assert selection.draft(frame)["nerve"].shape == (64, 96)
        assert selection.image(frame).with_suffix(".json").exists()
    table = (out / "frames.csv").read_text().splitlines()
    assert table[0] == "name,recording,frame,seconds,subject,reason,looked_at"
    assert all(line.endswith(",no") for line in table[1:])
    assert cv2.imread(str(out / "contact-sheet.png")).shape[1] == 4 * 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["to-label"]
    assert not (out / "candidates").exists()


def test_frames_without_nerve_become_a_data_set_of_images_without_nerve(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "absent"
    assert select(engine, out, SMALL, "--frames", "3", "--format", "masks", "--no-drafts") == 0
    assert "none of the frames may show a nerve" in capsys.readouterr().err
    data = open_dataset(out)
    assert len(data) == 3
    assert not any(sample.nerve.any() for sample in data)
    assert len(read_absent([out], InputSpec(32, 48, 0.25, 0.25, 0.5))) == 3


def test_a_recording_has_the_same_number_again(engine: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert select(engine, tmp_path / name, SMALL, "--frames", "2", "--subject", "7") == 0
    one, two = (Selection.read(tmp_path / name).frames for name in ("one", "two"))
    assert one == two
    assert {frame.subject for frame in one} == {"7"}


def test_identifiers_stay_behind(engine: Path, tmp_path: Path) -> None:
    """Nothing of a DICOM file but its image's pixels goes on: no name, no number, not even the file's."""
    source = tmp_path / "DOE_JANE.dcm"
    write_dicom(source, [still.image for still in map(render_still, range(3))])
    out = tmp_path / "to-label"
    assert select(engine, out, str(source), "--frames", "2", "--roi", "none") == 0
    for path in (path for path in out.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert not any(word in data.upper() for word in (b"DOE", b"JANE", b"SECRET", b"4711"))
        assert "DOE" not in path.name
        if path.suffix == ".png":
            with Pillow.open(path) as picture:
                assert not picture.info


def test_a_screen_without_an_image_is_refused(engine: Path, tmp_path: Path) -> None:
    """The whole screen may name the patient: nobody gets it without asking."""
    screens = tmp_path / "screens"
    screens.mkdir()
    grey = np.full((200, 300, 3), 90, np.uint8)
    for number in range(3):
        cv2.imwrite(str(screens / f"{number}.png"), grey)
    scratch = tmp_path / "scratch"
    backend = load_backend(engine)
    with pytest.raises(UsageError, match="found no ultrasound image in screens"):
        read_candidates(str(screens), Segmenter(backend), scratch, ReadOptions(5))


def test_frames_without_the_image_in_its_place_are_left_out(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the machine shows another screen, such as its list of patients, nothing is taken of it."""
    roi = Roi(0, 0, 96, 64)
    monkeypatch.setattr(ImageRegion, "locate_recorded", lambda _, frame: (roi, not 3 < frame.index < 12))
    backend = load_backend(engine)
    source = "phantom:?seed=1&frames=20&fps=2&size=96x64"
    found = read_candidates(source, Segmenter(backend, withhold=False), tmp_path, ReadOptions(20))
    assert [one.frame for one in found] == [0, 1, 2, 3, *range(12, 20)]
    assert len(list(tmp_path.glob("*.png"))) == len(found)


def test_a_recording_that_fails_does_not_stop_the_others(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    assert select(engine, tmp_path / "out", SMALL, str(broken), "--frames", "2", "--json") == 0
    said = capsys.readouterr()
    assert "error: broken.mp4" in said.err
    assert json.loads(said.out)["failed"] == ["broken.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "best"], "no strategy is called 'best'"),
        (["--format", "yolo"], "no labelling format is called 'yolo'"),
        (["--roi", "1,2"], "--roi"),
    ],
)
def test_wrong_options_are_named_before_anything_is_read(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert select(engine, tmp_path / "out", SMALL, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_not_touched(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.json").write_text("mine")
    assert select(engine, tmp_path, SMALL) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


def test_frames_labelled_already_are_not_chosen_again(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, data = tmp_path / "first", tmp_path / "data"
    assert select(engine, first, SMALL, "--frames", "9", "--format", "masks") == 0
    assert main(["import", str(first), "--out", str(data), "--all-looked-at"]) == 0
    assert select(engine, tmp_path / "second", SMALL, "--known", str(data)) == 2
    assert "labelled already" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()


@pytest.fixture
def labelled(engine: Path, tmp_path: Path) -> Path:
    """A selection of four frames in the format labelme, none looked at."""
    out = tmp_path / "to-label"
    assert select(engine, out, SMALL, "--frames", "3") == 0
    return out


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_import_names_drafts_that_nobody_changed(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((labelled / "images").glob("*.json"))
    edit(files[0], flags={"looked at": True})
    capsys.readouterr()
    assert main(["import", str(labelled), "--out", str(tmp_path / "data"), "--json"]) == 0
    said = capsys.readouterr()
    values = json.loads(said.out)
    assert values["looked_at"] == 1
    left_out = values["drafts"] + values["not_looked_at"]
    assert left_out == [path.stem for path in files[1:]]
    assert all(path.stem in said.err for path in files[1:])
    assert [sample.name for sample in open_dataset(tmp_path / "data")] == [files[0].stem]
    assert main(["check", str(tmp_path / "data")]) == 0


def test_import_of_bad_labels_names_them_and_writes_nothing(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((labelled / "images").glob("*.json"))
    files[0].write_text("{")
    bad = [{"label": "bone", "shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9]]}]
    edit(files[1], shapes=bad)
    edit(files[2], flags={"looked at": True})
    capsys.readouterr()
    assert main(["import", str(labelled), "--out", str(tmp_path / "data")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bad: ")]
    assert len(lines) == 2
    assert str(files[0]) in lines[0]
    assert "unknown structure 'bone'; --map bone=nerve|vessel|ignore" in lines[1]
    assert not (tmp_path / "data").exists()
    assert main(["import", str(labelled), "--out", str(tmp_path / "data"), "--skip-bad"]) == 0
    assert [sample.name for sample in open_dataset(tmp_path / "data")] == [files[2].stem]


def test_import_of_labels_that_nobody_looked_at_is_refused(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(labelled), "--out", str(tmp_path / "data")]) == 1
    assert "none of the 3 frames was looked at" in capsys.readouterr().err


def test_import_takes_a_zip_that_lies_elsewhere(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection, data = tmp_path / "to-label", tmp_path / "data"
    assert select(engine, selection, SMALL, "--frames", "3", "--format", "cvat") == 0
    exported = tmp_path / "job_5.zip"
    with zipfile.ZipFile(exported, "w") as archive:
        archive.write(selection / "annotations.xml", "annotations.xml")
    assert main(["import", str(exported), "--out", str(data), "--all-looked-at"]) == 2
    assert "--selection" in capsys.readouterr().err
    arguments = ["import", str(exported), "--selection", str(selection), "--out", str(data)]
    assert main([*arguments, "--all-looked-at"]) == 0
    assert len(open_dataset(data)) == 3


def test_a_damaged_zip_is_named(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = labelled / "a.zip"
    exported.write_bytes(b"PK\x03\x04nothing")
    assert main(["import", str(exported), "--out", str(tmp_path / "data")]) == 1
    assert f"cannot unpack {exported}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_kill_leave_nothing_that_hinders_the_next_run(
    engine: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "to-label"
    arguments = [
        "select",
        "phantom:?seed=1&frames=100000&size=96x64",
        "--out",
        str(out),
        "--engine",
        str(engine),
    ]
    run = subprocess.Popen([sys.executable, "-m", "streamseg", *arguments], stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not any(tmp_path.glob("to-label.partial/candidates/*.png")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(run.pid, number)
    assert run.wait(60) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert run.stderr is not None
    run.stderr.close()
    assert not out.exists()
    assert select(engine, out, SMALL, "--frames", "2") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["to-label"]
