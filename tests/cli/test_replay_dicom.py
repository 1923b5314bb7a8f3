"""``streamseg replay --dicom`` from a cine to objects of its study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from streamseg.cli import main
from streamseg.sinks import read_records
from tests.capture.dicoms import jpeg, sample, write_dicom
from tests.cli.conftest import ClipWriter, disc
from tests.render.examples import outline_vessels
from tests.sinks.dicom.cases import check_standard
from tests.sinks.dicom.test_segmentation import masks_of


def write_cine(
    path: Path,
    frames: int = 20,
    *,
    damaged: Sequence[int] = (),
    images: Sequence[npt.NDArray[np.uint8]] | None = None,
    **elements: Any,
) -> Path:
    """A JPEG cine of a disc, none in every fifth frame; ``damaged`` frames cannot be decoded."""
    images = [disc(n) for n in range(frames)] if images is None else images
    coded = [b"\xff\xd8\xff\xd9" if n in damaged else jpeg(image) for n, image in enumerate(images)]

    def fill(data: Dataset) -> None:
        data.SOPClassUID, data.SOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3.12"
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.10", "1.2.3.11"
        data.FrameTime, data.PixelSpacing = "40", [0.1, 0.1]
        for keyword, value in elements.items():
            setattr(data, keyword, value)

    return write_dicom(
        path, images, syntax=JPEGBaseline8Bit, photometric="YBR_FULL_422", encoded=coded, change=fill
    )


def replay(engine: Path, *arguments: str) -> int:
    return main(["replay", "--engine", str(engine), "--roi", "none", *arguments])


def test_a_cine_becomes_a_segmentation_a_report_and_an_image(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cine, out, lines = write_cine(tmp_path / "cine.dcm"), tmp_path / "new" / "out", tmp_path / "o.jsonl"
    code = replay(engine, str(cine), "--dicom", str(out), "--burned-in", "--records", str(lines), "--json")
    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    written = [str(out / f"cine-{kind}.dcm") for kind in ("seg", "sr", "burned-in")]
    assert [(o["path"], o["frames"]) for o in answer["outputs"]] == list(
        zip([str(lines), *written], [20, 16, 20, 20], strict=True)
    )
    records = read_records(lines)[1]
    masks = masks_of(dcmread(written[0]))
    # What the records say of a frame is what the SEG holds for it.
    assert {number for _, number in masks} == {r["index"] + 1 for r in records if r["area_px"]}
    assert all(masks["nerve", r["index"] + 1].sum() == r["area_px"] for r in records if r["area_px"])
    assert dcmread(written[2]).NumberOfFrames == 20
    for path in written:
        check_standard(Path(path))


def test_a_start_and_damage_do_not_shift_the_numbers_of_frames(tmp_path: Path, engine: Path) -> None:
    cine = write_cine(tmp_path / "cine.dcm", damaged=[8])
    assert replay(engine, str(cine), "--dicom", str(tmp_path), "--start", "0.24", "--max-frames", "6") == 0
    seg = dcmread(tmp_path / "cine-seg.dcm")
    # From frame 7 (0.24 s) on, without the damaged ninth and the empty eleventh.
    assert {number for _, number in masks_of(seg)} == {7, 8, 10, 12, 13}
    for (_, number), mask in masks_of(seg).items():
        assert np.flatnonzero(mask.any(axis=0)).mean() == pytest.approx(20 + (number - 1) % 50, abs=1)
    sr = dcmread(tmp_path / "cine-sr.dcm")
    assert sr.CompletionFlag == "PARTIAL"


def test_frames_that_may_have_moved_up_get_no_outline(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames in two pieces each, without a table; the start of the ninth is damaged: it joins the eighth."""
    cine = write_cine(tmp_path / "cine.dcm")
    data = dcmread(cine)
    frames = [jpeg(disc(n)) for n in range(20)]
    frames[8] = b"\0\0\0" + frames[8][3:]
    data.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=False)
    data["PixelData"].VR = "OB"
    data.save_as(cine)
    assert replay(engine, str(cine), "--dicom", str(tmp_path / "out")) == 1
    assert "numbers of its frames are not certain" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.dcm"))
    whole = tmp_path / "whole.dcm"
    data.PixelData = encapsulate([jpeg(disc(n)) for n in range(20)], fragments_per_frame=2, has_bot=False)
    data["PixelData"].VR = "OB"
    data.save_as(whole)
    assert replay(engine, str(whole), "--dicom", str(tmp_path / "out")) == 0
    assert dcmread(tmp_path / "out" / "whole-seg.dcm").NumberOfFrames == 16


def test_a_cut_cine_is_finished_up_to_the_cut(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cine = write_cine(tmp_path / "cine.dcm")
    cine.write_bytes(cine.read_bytes()[: cine.stat().st_size // 2])
    assert replay(engine, str(cine), "--dicom", str(tmp_path / "out")) == 1
    assert "cine.dcm ends in the middle" in capsys.readouterr().err
    assert dcmread(tmp_path / "out" / "cine-sr.dcm").CompletionFlag == "PARTIAL"
    check_standard(tmp_path / "out" / "cine-seg.dcm")


def test_pixels_that_are_not_square_come_back_as_they_were(tmp_path: Path, engine: Path) -> None:
    images = [np.ascontiguousarray(disc(n)[:, ::2]) for n in range(5)]
    cine = write_cine(tmp_path / "cine.dcm", images=images, PixelSpacing=[0.1, 0.2])
    assert replay(engine, str(cine), "--dicom", str(tmp_path)) == 0
    seg = dcmread(tmp_path / "cine-seg.dcm")
    assert (seg.Rows, seg.Columns) == images[0].shape[:2]
    for (_, number), mask in masks_of(seg).items():
        bright = images[number - 1][..., 0] > 127
        assert (mask & bright).sum() / (mask | bright).sum() > 0.9


def test_a_cine_without_nerve_has_only_a_report(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cine = write_cine(tmp_path / "cine.dcm", images=[disc(0)] * 3)
    assert replay(engine, str(cine), "--dicom", str(tmp_path / "out")) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cine-sr.dcm"]
    assert "cine-seg.dcm" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["color3d_jpeg_baseline.dcm", "examples_ybr_color.dcm", "US1_J2KR.dcm"])
def test_real_cines_and_images_give_objects_to_the_standard(tmp_path: Path, engine: Path, name: str) -> None:
    arguments = ("--dicom", str(tmp_path), "--burned-in", "--max-frames", "2")
    assert replay(engine, str(sample(name)), *arguments) == 0
    written = list(tmp_path.iterdir())
    assert len(written) == 3
    for path in written:
        check_standard(path)


def test_vessels_get_a_segment_and_areas_of_their_own(
    tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outline_vessels(monkeypatch)
    lines = tmp_path / "o.jsonl"
    cine = write_cine(tmp_path / "cine.dcm", 6)
    assert replay(engine, str(cine), "--dicom", str(tmp_path), "--records", str(lines)) == 0
    seg = dcmread(tmp_path / "cine-seg.dcm")
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["nerve", "vessel"]
    masks = masks_of(seg)
    for record in read_records(lines)[1]:
        area = record["structures"]["vessel"]["area_px"]
        assert area > 0
        assert masks["vessel", record["index"] + 1].sum() == area
    check_standard(tmp_path / "cine-seg.dcm")
    check_standard(tmp_path / "cine-sr.dcm")


def test_a_folder_of_clips_names_them(
    tmp_path: Path, engine: Path, write_clip: ClipWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_cine(clips / "a.dcm", 3)
    write_cine(clips / "b.dcm", 3)
    write_clip(clips / "c.mp4", 3)
    assert replay(engine, str(clips), "--dicom", str(tmp_path / "out")) == 1
    assert "error: c.mp4: c.mp4 is no DICOM file" in capsys.readouterr().err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a-seg.dcm", "a-sr.dcm", "b-seg.dcm", "b-sr.dcm"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["clip.mp4", "--dicom", "out"], "is none"),
        (["cine.dcm", "--burned-in"], "--dicom DIR"),
        (["cine.dcm", "--dicom", "cine.dcm"], "is a file"),
        (["cine.dcm", "--dicom", "full"], "--force"),
        (["cine.dcm", "--dicom", "out", "--as-recorded"], "--as-recorded"),
        (["anonymous.dcm", "--dicom", "out"], "StudyInstanceUID"),
    ],
)
def test_wrong_use_is_one_line_before_any_work(
    tmp_path: Path,
    engine: Path,
    write_clip: ClipWriter,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("clip.mp4"), 3)
    write_cine(Path("cine.dcm"), 3)
    write_cine(Path("anonymous.dcm"), 3, StudyInstanceUID="")
    Path("full").mkdir()
    Path("full/cine-sr.dcm").write_text("old")
    assert replay(engine, *arguments) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert "Doe" not in err
    assert not Path("out").exists()
