"""The structured report has the areas and outlines of every frame, and the states of those without."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from streamseg.core.errors import SinkError
from streamseg.core.types import State
from streamseg.sinks.dicom import ReportSink
from tests.optional import needs
from tests.sinks.dicom.cases import CINE, ENGINE, check_standard, cine, contours_of, disc, result

NONE = np.zeros((60, 90), np.bool_)


def write(path: Path, results: list, reference=CINE) -> Dataset:
    sink = ReportSink(path, reference, ENGINE)
    for one in results:
        sink.write(one)
    sink.close()
    assert sink.frames == len(results)
    return dcmread(path)


def groups_of(data: Dataset) -> list[Dataset]:
    containers = [c for c in data.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return [group for container in containers for group in container.ContentSequence]


def child(group: Dataset, code: str) -> Dataset:
    return next(c for c in group.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == code)


def area_of(group: Dataset) -> tuple[float, str]:
    value = child(group, "42798000").MeasuredValueSequence[0]
    return float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue


def frame_of(group: Dataset) -> int:
    source = child(group, "111030").ContentSequence[0].ReferencedSOPSequence[0]
    assert source.ReferencedSOPInstanceUID == CINE.instance_uid
    return int(source.ReferencedFrameNumber)


def comments_of(data: Dataset) -> list[str]:
    container = next(c for c in data.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "C0034375")
    return [c.TextValue for c in container.ContentSequence]


def test_areas_and_outlines_per_frame(tmp_path: Path) -> None:
    spacing = (0.1, 0.2)
    masks = {n: disc((60, 90), (20 + 3 * n, 30)) for n in (0, 2, 3)}
    data = write(tmp_path / "a.dcm", [result(n, masks.get(n, NONE), spacing=spacing) for n in range(10)])
    groups = groups_of(data)
    assert [frame_of(group) for group in groups] == [1, 3, 4]
    for group, mask in zip(groups, masks.values(), strict=True):
        assert area_of(group) == (pytest.approx(mask.sum() * 0.02), "mm2")
        line = np.array(child(group, "111030").GraphicData).reshape(-1, 2)
        assert np.array_equal(line[0], line[-1])
        # Coordinates count from the corner of a pixel, ours from its centre.
        assert np.array_equal(line[:-1] - 0.5, contours_of(mask)[0])
        assert child(group, "121071").ConceptCodeSequence[0].CodeValue == "84782009"
    assert len({child(group, "112040").UID for group in groups}) == 1
    assert data.CompletionFlag == "COMPLETE"
    assert str(data.PatientName) == "Müller^Jörg"
    check_standard(tmp_path / "a.dcm")


def test_areas_are_in_pixels_where_the_spacing_is_unknown(tmp_path: Path) -> None:
    mask = disc((60, 90), (30, 30))
    (group,) = groups_of(write(tmp_path / "a.dcm", [result(0, mask)]))
    assert area_of(group) == (mask.sum(), "{pixels}")
    check_standard(tmp_path / "a.dcm")


def test_each_part_of_each_structure_has_a_group(tmp_path: Path) -> None:
    nerve, vessel = disc((60, 90), (20, 30), (60, 30)), disc((60, 90), (40, 50), radius=5)
    data = write(tmp_path / "a.dcm", [result(0, nerve, others={"vessel": vessel})])
    groups = groups_of(data)
    names = [child(group, "112039").TextValue for group in groups]
    assert names == ["nerve", "nerve, part 2", "vessel"]
    areas = [area_of(group)[0] for group in groups]
    assert areas[0] + areas[1] == nerve.sum()
    assert areas[2] == vessel.sum()
    assert data.CompletionFlag == "PARTIAL"
    assert "Segmented: 1 of 10 frames." in comments_of(data)
    check_standard(tmp_path / "a.dcm")


def test_a_cine_without_nerve_has_a_report_that_says_so(tmp_path: Path) -> None:
    states = [State.NO_NERVE] * 3 + [State.UNLIKE_TRAINING] + [State.NO_NERVE] * 6
    data = write(tmp_path / "a.dcm", [result(n, NONE, state=state) for n, state in enumerate(states)])
    assert groups_of(data) == []
    said = comments_of(data)
    assert "no nerve: frames 1-3, 5-10" in said
    assert "unlike the training data: frames 4" in said
    assert "not a medical device" in said[0]
    check_standard(tmp_path / "a.dcm")


def test_outlines_are_on_the_stored_pixels(tmp_path: Path) -> None:
    """Of a source with 45 columns, whose frames are stretched to 90."""
    mask = disc((60, 90), (45, 30))
    (group,) = groups_of(write(tmp_path / "a.dcm", [result(0, mask)], cine(60, 45)))
    line = np.array(child(group, "111030").GraphicData).reshape(-1, 2)[:-1]
    assert np.allclose(line, (contours_of(mask)[0] + 0.5) * (0.5, 1))


@pytest.mark.parametrize("points", [1, 2])
def test_an_outline_of_one_or_two_pixels_is_their_border(tmp_path: Path, points: int) -> None:
    mask = NONE.copy()
    mask[10, 20 : 20 + points] = True
    (group,) = groups_of(write(tmp_path / "a.dcm", [result(0, mask)]))
    line = np.array(child(group, "111030").GraphicData).reshape(-1, 2)
    assert line.min(axis=0).tolist() == [20, 10]
    assert line.max(axis=0).tolist() == [20 + points, 11]
    check_standard(tmp_path / "a.dcm")


def test_too_many_outlines_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.sinks.dicom.report._MAX_GROUPS", 2)
    sink = ReportSink(tmp_path / "a.dcm", CINE, ENGINE)
    mask = disc((60, 90), (30, 30))
    sink.write(result(0, mask))
    sink.write(result(1, mask))
    with pytest.raises(SinkError, match="--max-frames"):
        sink.write(result(2, mask))
    sink.close()
    assert len(groups_of(dcmread(tmp_path / "a.dcm"))) == 2


def test_uids_that_are_not_quite_to_the_standard_and_other_engines_are_taken(tmp_path: Path) -> None:
    """A number that begins with a zero; an engine of another package without a hash."""
    odd = replace(CINE, instance_uid="1.2.03.12", study_uid="1.2.0003")
    sink = ReportSink(tmp_path / "a.dcm", odd, replace(ENGINE, sha256="", name="π\\net"))
    sink.write(result(0, disc((60, 90), (30, 30))))
    sink.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dcmread(tmp_path / "a.dcm")
        assert data.StudyInstanceUID == "1.2.0003"
    assert (data.ManufacturerModelName, data.DeviceSerialNumber) == ("?/net", "unknown")


def test_highdicom_reads_the_template(tmp_path: Path) -> None:
    needs("highdicom")
    import highdicom

    mask = disc((60, 90), (30, 30))
    write(tmp_path / "a.dcm", [result(0, mask, spacing=(0.1, 0.1))])
    (group,) = highdicom.sr.srread(tmp_path / "a.dcm").content.get_planar_roi_measurement_groups()
    assert group.get_measurements()[0].value == pytest.approx(mask.sum() * 0.01)
    assert group.roi.value[0].tolist() == (contours_of(mask)[0][0] + 0.5).tolist()
