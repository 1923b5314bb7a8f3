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
from pydicom.uid import JPEGBaseline8Bit, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from streamseg.capture import open_source
from streamseg.capture.dicom.reference import reference_of
from streamseg.cli import main
from streamseg.core.errors import SourceError
from streamseg.sinks import read_records
from tests.capture.dicoms import jpeg, sample, write_dicom
from tests.cli.conftest import ClipWriter, disc
from tests.optional import needs
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


def write_series(folder: Path, frames: int = 8, **elements: Any) -> dict[str, int]:
    """A series with a file for each frame, whose names are in another order; UID -> x of the disc, but 0."""
    folder.mkdir(parents=True)
    found = {}
    for number in range(frames):
        uid = f"1.2.3.100.{number}"
        path = folder / f"IM{(number * 5) % frames:04d}"
        single = {"SOPClassUID": UltrasoundImageStorage, "SOPInstanceUID": uid, "InstanceNumber": number + 1}
        write_cine(path, images=[disc(number)], **single, **elements)
        data = dcmread(path)
        del data.NumberOfFrames
        data.save_as(path)
        found[uid] = 20 + number
    return found


def sources_of(seg: Dataset) -> dict[str, npt.NDArray[np.bool_]]:
    """The masks of a SEG by the instance that each was computed from."""
    groups = seg.PerFrameFunctionalGroupsSequence
    images = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in groups]
    assert not any("ReferencedFrameNumber" in image for image in images)
    return dict(zip((image.ReferencedSOPInstanceUID for image in images), seg.pixel_array > 0, strict=True))


def test_a_series_of_single_frames_is_referred_to_file_by_file(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = write_series(tmp_path / "series.1")
    out = tmp_path / "out"
    assert replay(engine, str(tmp_path / "series.1"), "--dicom", str(out), "--burned-in", "--json") == 0
    paths = [out / f"series.1-{kind}.dcm" for kind in ("seg", "sr", "burned-in")]
    outputs = json.loads(capsys.readouterr().out)["outputs"]
    assert [(o["path"], o["frames"]) for o in outputs] == list(zip(map(str, paths), [6, 8, 8], strict=True))
    seg, sr, images = map(dcmread, paths)
    masks = sources_of(seg)
    assert set(masks) == set(frames) - {"1.2.3.100.0", "1.2.3.100.5"}  # those without a disc
    for uid, mask in masks.items():
        assert np.flatnonzero(mask.any(axis=0)).mean() == pytest.approx(frames[uid], abs=1)
    listed = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in listed] == list(frames)
    listed = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in listed] == list(frames)
    assert [item.ReferencedSOPInstanceUID for item in images.SourceImageSequence] == list(frames)
    assert sr.CompletionFlag == "COMPLETE"
    for path in paths:
        check_standard(path)


def test_other_libraries_find_the_file_of_each_outline(tmp_path: Path, engine: Path) -> None:
    needs("highdicom")
    import highdicom

    frames = write_series(tmp_path / "series")
    assert replay(engine, str(tmp_path / "series"), "--dicom", str(tmp_path)) == 0
    masks = sources_of(dcmread(tmp_path / "series-seg.dcm"))
    read = highdicom.seg.segread(tmp_path / "series-seg.dcm")
    assert {instance for _, _, instance in read.get_source_image_uids()} == set(frames)
    pixels = read.get_pixels_by_source_instance(list(masks), ignore_spatial_locations=True)
    assert np.array_equal(pixels[..., 0] > 0, np.stack(list(masks.values())))
    content = highdicom.sr.srread(tmp_path / "series-sr.dcm").content
    sources = [
        group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for group in content.get_planar_roi_measurement_groups()
    ]
    assert sources == list(masks)


def test_a_start_and_a_broken_file_of_a_series_shift_nothing(
    tmp_path: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = write_series(tmp_path / "series")
    broken = next(path for path in (tmp_path / "series").iterdir() if dcmread(path).InstanceNumber == 5)
    data = dcmread(broken)
    data.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    data.save_as(broken)
    assert replay(engine, str(tmp_path / "series"), "--dicom", str(tmp_path), "--start", "0.08") == 1
    assert "series has 1 file that cannot be read" in capsys.readouterr().err
    masks = sources_of(dcmread(tmp_path / "series-seg.dcm"))
    assert [uid[-1] for uid in masks] == ["2", "3", "6", "7"]
    for uid, mask in masks.items():
        assert np.flatnonzero(mask.any(axis=0)).mean() == pytest.approx(frames[uid], abs=1)
    assert dcmread(tmp_path / "series-sr.dcm").CompletionFlag == "PARTIAL"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"StudyInstanceUID": "1.2.3.99"}, "another study than"),
        ({"PatientID": "SECRET-4712"}, "another patient than"),
        ({"Rows": 7}, "another size than"),
        ({"SOPInstanceUID": "1.2.3.100.0"}, "the same SOPInstanceUID"),
    ],
)
def test_files_that_are_no_frames_of_one_cine_get_no_outlines(
    tmp_path: Path, engine: Path, change: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "series", 3)
    data = dcmread(tmp_path / "series" / "IM0001")
    for keyword, value in change.items():
        setattr(data, keyword, value)
    data.save_as(tmp_path / "series" / "IM0001")
    assert replay(engine, str(tmp_path / "series"), "--dicom", str(tmp_path / "out")) == 1
    err = capsys.readouterr().err
    assert says in err
    assert "IM0001" in err
    assert "SECRET" not in err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_replaced_while_a_series_is_opened_gets_no_outline(tmp_path: Path) -> None:
    write_series(tmp_path / "series", 4)
    with open_source(tmp_path / "series") as source:
        data = dcmread(tmp_path / "series" / "IM0001")
        data.SOPInstanceUID = "1.2.3.101"
        data.save_as(tmp_path / "series" / "IM0001")
        with pytest.raises(SourceError, match="changed while they were opened"):
            reference_of(source, tmp_path / "series")
        frames = []
        with pytest.raises(SourceError, match="1 file that cannot be read"):
            frames.extend(source)
    assert [frame.file_index for frame in frames] == [0, 2, 3]


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
