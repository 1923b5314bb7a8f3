"""A DICOM Segmentation gives every outline back exactly, on the frame that it was computed from."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from streamseg.core.errors import SinkError, SourceError, UsageError
from streamseg.core.types import Mask, State
from streamseg.sinks.dicom import SegmentationSink
from tests.full_disk import largest_file, small_files
from tests.optional import needs
from tests.sinks.dicom.cases import CINE, ENGINE, check_standard, cine, disc, result

NONE = np.zeros((60, 90), np.bool_)


def write(path: Path, results: list, reference=CINE) -> SegmentationSink:
    sink = SegmentationSink(path, reference, ENGINE)
    for one in results:
        sink.write(one)
    sink.close()
    return sink


def masks_of(data: Dataset) -> dict[tuple[str, int], Mask]:
    """The masks of a SEG by structure and number of the source's frame."""
    labels = {segment.SegmentNumber: segment.SegmentLabel for segment in data.SegmentSequence}
    pixels = data.pixel_array.reshape(data.NumberOfFrames, data.Rows, data.Columns)
    found = {}
    for group, mask in zip(data.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == CINE.instance_uid
        label = labels[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        found[label, int(source.get("ReferencedFrameNumber", 1))] = mask.astype(bool)
    return found


def test_every_mask_comes_back_on_its_own_frame(tmp_path: Path) -> None:
    nerves = {n: disc((60, 90), (20 + 3 * n, 30)) for n in (0, 2, 3, 9)}
    results = [result(n, nerves.get(n, NONE)) for n in range(10)]
    sink = write(tmp_path / "a.dcm", results)
    data = dcmread(tmp_path / "a.dcm")
    assert sink.frames == data.NumberOfFrames == 4
    found = masks_of(data)
    assert set(found) == {("nerve", n + 1) for n in nerves}
    assert all(np.array_equal(found["nerve", n + 1], mask) for n, mask in nerves.items())
    assert (data.Rows, data.Columns) == (60, 90)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dcm"]


def test_it_is_an_object_of_the_cines_study(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", [result(0, disc((60, 90), (30, 30)))])
    data = dcmread(tmp_path / "a.dcm")
    assert data.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert data.SOPClassUID == SegmentationStorage
    assert str(data.PatientName) == "Müller^Jörg"
    assert (data.PatientID, data.StudyInstanceUID, data.StudyID) == ("SECRET-4711", CINE.study_uid, "7")
    assert data.SeriesInstanceUID not in (CINE.series_uid, "")
    assert data.ReferencedSeriesSequence[0].SeriesInstanceUID == CINE.series_uid
    assert "FrameOfReferenceUID" not in data
    (segment,) = data.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "84782009"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert "net-openvino-int8" in segment.SegmentAlgorithmName
    check_standard(tmp_path / "a.dcm")


def test_each_structure_has_its_segment_in_a_fixed_order(tmp_path: Path) -> None:
    vessel, nerve = disc((60, 90), (70, 20), radius=5), disc((60, 90), (30, 30))
    results = [
        result(0, NONE, others={"vessel": vessel, "something": NONE}),
        result(1, nerve, others={"vessel": vessel, "something": nerve}),
    ]
    write(tmp_path / "a.dcm", results)
    data = dcmread(tmp_path / "a.dcm")
    kinds = [(s.SegmentLabel, s.SegmentedPropertyTypeCodeSequence[0].CodeValue) for s in data.SegmentSequence]
    assert kinds == [("nerve", "84782009"), ("vessel", "59820001"), ("something", "91723000")]
    found = masks_of(data)
    assert set(found) == {("vessel", 1), ("nerve", 2), ("vessel", 2), ("something", 2)}
    assert np.array_equal(found["vessel", 1], vessel)
    indices = [g.FrameContentSequence[0].DimensionIndexValues for g in data.PerFrameFunctionalGroupsSequence]
    assert indices == [[2, 1], [1, 2], [2, 2], [3, 2]]
    check_standard(tmp_path / "a.dcm")


@pytest.mark.parametrize("shape", [(7, 9), (5, 5), (13, 17)])
def test_frames_that_are_no_whole_bytes_follow_one_another_bit_by_bit(tmp_path: Path, shape) -> None:
    random = np.random.default_rng(3)
    masks = [random.random(shape) < 0.5 for _ in range(5)]
    write(tmp_path / "a.dcm", [result(n, m) for n, m in enumerate(masks)], cine(*shape))
    data = dcmread(tmp_path / "a.dcm")
    assert len(data.PixelData) % 2 == 0
    assert all(np.array_equal(masks_of(data)["nerve", n + 1], mask) for n, mask in enumerate(masks))


def test_numbers_are_those_of_the_file_where_frames_are_missing(tmp_path: Path) -> None:
    """A start, or a damaged frame, shifts the index but not the number in the file."""
    mask = disc((60, 90), (30, 30))
    write(tmp_path / "a.dcm", [result(0, mask, file_index=4), result(1, mask, file_index=6)])
    data = dcmread(tmp_path / "a.dcm")
    assert {number for _, number in masks_of(data)} == {5, 7}
    check_standard(tmp_path / "a.dcm")


@pytest.mark.parametrize(("rows", "columns"), [(60, 45), (30, 90), (48, 90)])
def test_pixels_that_are_not_square_are_those_of_the_source(tmp_path: Path, rows: int, columns: int) -> None:
    """The frame was stretched to 60 x 90; a disc on it is an ellipse on the stored pixels."""
    stored = cine(rows, columns)
    write(tmp_path / "a.dcm", [result(0, disc((60, 90), (45, 30), radius=12))], stored)
    data = dcmread(tmp_path / "a.dcm")
    assert (data.Rows, data.Columns) == (rows, columns)
    mask = masks_of(data)["nerve", 1]
    height, width = (np.ptp(np.flatnonzero(mask.any(axis=axis))) + 1 for axis in (1, 0))
    assert height == pytest.approx(25 * rows / 60, abs=1)
    assert width == pytest.approx(25 * columns / 90, abs=2)
    assert np.argwhere(mask).mean(axis=0) + 0.5 == pytest.approx(
        (30.5 * rows / 60, 45.5 * columns / 90), abs=0.3
    )


def test_a_frame_that_is_not_the_stored_image_is_refused(tmp_path: Path) -> None:
    sink = SegmentationSink(tmp_path / "a.dcm", cine(61, 91), ENGINE)
    with pytest.raises(SourceError, match="do not fit"):
        sink.write(result(0, disc((60, 90), (30, 30))))
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_without_outlines_there_is_no_file(tmp_path: Path) -> None:
    sink = write(
        tmp_path / "a.dcm",
        [result(0, NONE), result(1, disc((60, 90), (30, 30)), state=State.UNLIKE_TRAINING)],
    )
    assert sink.frames == 0
    assert list(tmp_path.iterdir()) == []


def test_a_single_image_is_referred_to_without_a_frame_number(tmp_path: Path) -> None:
    single = cine(60, 90, frames=1, multi_frame=False, class_uid="1.2.840.10008.5.1.4.1.1.6.1")
    write(tmp_path / "a.dcm", [result(0, disc((60, 90), (30, 30)))], single)
    group = dcmread(tmp_path / "a.dcm").PerFrameFunctionalGroupsSequence[0]
    assert "ReferencedFrameNumber" not in group.DerivationImageSequence[0].SourceImageSequence[0]
    check_standard(tmp_path / "a.dcm")


@pytest.mark.parametrize(("file_index", "says"), [(None, "not certain"), (10, "states 10 frames")])
def test_an_outline_without_a_certain_frame_is_refused_and_those_before_it_are_kept(
    tmp_path: Path, file_index: int | None, says: str
) -> None:
    mask = disc((60, 90), (30, 30))
    sink = SegmentationSink(tmp_path / "a.dcm", CINE, ENGINE)
    sink.write(result(0, mask))
    with pytest.raises(SourceError, match=says):
        sink.write(result(1, mask, file_index=file_index))
    with pytest.raises(SinkError, match="earlier error"):
        sink.write(result(2, mask))
    sink.close()
    assert list(masks_of(dcmread(tmp_path / "a.dcm"))) == [("nerve", 1)]


def test_an_older_file_stays_unless_forced_and_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_text("old")
    with pytest.raises(UsageError, match="--force"):
        SegmentationSink(path, CINE, ENGINE)
    sink = SegmentationSink(path, CINE, ENGINE, force=True)
    sink.write(result(0, disc((60, 90), (30, 30))))
    assert path.read_text() == "old"
    sink.close()
    assert dcmread(path).NumberOfFrames == 1


def test_an_older_file_does_not_stay_beside_a_report_without_outlines(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    write(path, [result(0, disc((60, 90), (30, 30)))])
    SegmentationSink(path, CINE, ENGINE, force=True).close()  # a run that got no frame says nothing
    assert path.exists()
    sink = SegmentationSink(path, CINE, ENGINE, force=True)
    sink.write(result(0, NONE))
    sink.close()
    assert not path.exists()


@pytest.mark.parametrize("limit", [200, 4000])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, limit: int) -> None:
    """While the masks wait, or when the file is written."""
    sink = SegmentationSink(tmp_path / "a.dcm", CINE, ENGINE)

    def write_all() -> None:
        for number in range(10):
            sink.write(result(number, disc((60, 90), (30, 30))))
        sink.close()

    with small_files(limit):
        with pytest.raises(SinkError, match=r"cannot write .*a\.dcm"):
            write_all()
        sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from tests.sinks.dicom.cases import CINE, ENGINE, disc, result\n"
        "from streamseg.sinks.dicom import SegmentationSink\n"
        "sink = SegmentationSink(Path(sys.argv[1]), CINE, ENGINE)\n"
        "sink.write(result(0, disc((60, 90), (30, 30))))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.dcm")],
        cwd=root,
        preexec_fn=largest_file(None),
        check=False,
    )
    assert killed.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_highdicom_reads_the_same_masks(tmp_path: Path) -> None:
    needs("highdicom")
    import highdicom

    masks = {n: disc((60, 90), (20 + 5 * n, 30)) for n in (1, 4)}
    write(tmp_path / "a.dcm", [result(n, masks.get(n, NONE)) for n in range(6)])
    read = highdicom.seg.segread(tmp_path / "a.dcm")
    ((_, _, instance),) = read.get_source_image_uids()
    pixels = read.get_pixels_by_source_frame(instance, [2, 5])
    assert np.array_equal(pixels[..., 0].astype(bool), np.stack([masks[1], masks[4]]))


def test_uids_differ_from_file_to_file(tmp_path: Path) -> None:
    uids = []
    for number in range(2):
        write(tmp_path / f"{number}.dcm", [result(0, disc((60, 90), (30, 30)))])
        data = dcmread(tmp_path / f"{number}.dcm")
        uids.append((data.SOPInstanceUID, data.SeriesInstanceUID))
    assert all(a != b for one, other in pairwise(uids) for a, b in zip(one, other, strict=True))
