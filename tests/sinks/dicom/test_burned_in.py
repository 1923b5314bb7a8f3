"""The cine with its outlines drawn in is an ultrasound image of its own, which every viewer shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from streamseg.capture import open_source
from streamseg.core.errors import SinkError
from streamseg.core.types import Roi
from streamseg.render.overlay import YELLOW
from streamseg.sinks.dicom import BurnedInSink
from tests.full_disk import small_files
from tests.render.examples import near
from tests.sinks.dicom.cases import CINE, ENGINE, INFO, check_standard, disc, result

MASK = disc((60, 90), (45, 30), radius=15)


def write(path: Path, results: list, *, reference=CINE, full_frame: bool = False) -> Dataset:
    sink = BurnedInSink(path, reference, INFO, ENGINE, full_frame=full_frame)
    for one in results:
        sink.write(one)
    sink.close()
    assert sink.frames == len(results)
    return dcmread(path)


def test_every_frame_has_its_outline_and_time(tmp_path: Path) -> None:
    times = [0, 0.04, 0.1, 0.12]
    results = [
        result(n, MASK if n != 2 else np.zeros_like(MASK), pts=t, spacing=(0.1, 0.2))
        for n, t in enumerate(times)
    ]
    data = write(tmp_path / "a.dcm", results)
    assert data.NumberOfFrames == 4
    assert [float(step) for step in data.FrameTimeVector] == pytest.approx([0, 40, 60, 20])
    with open_source(tmp_path / "a.dcm") as source:
        frames = list(source)
    assert [frame.pts_seconds for frame in frames] == pytest.approx(times)
    assert [bool(near(frame.image[:60], YELLOW, 60).any()) for frame in frames] == [True, True, False, True]
    assert frames[0].spacing_mm == pytest.approx((0.1, 0.2), rel=0.6)  # its pixels are made square
    assert data.BurnedInAnnotation == "YES"
    assert "not a medical device" in data.DerivationDescription
    check_standard(tmp_path / "a.dcm")


def test_equal_steps_are_one_frame_time(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm", [result(n, MASK, pts=n / 25) for n in range(3)])
    assert float(data.FrameTime) == pytest.approx(40)
    assert "FrameTimeVector" not in data


def test_a_cine_without_times_plays_at_the_rate_of_videos(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm", [result(n, MASK) for n in range(2)])
    assert float(data.FrameTime) == pytest.approx(40)
    assert "SequenceOfUltrasoundRegions" not in data  # nothing is known about the size of a pixel
    check_standard(tmp_path / "a.dcm")


def test_only_the_region_is_kept_unless_the_whole_screen_is_asked_for(tmp_path: Path) -> None:
    results = [result(0, MASK, roi=Roi(10, 5, 70, 50)), result(1, MASK, roi=Roi(12, 5, 60, 40))]
    data = write(tmp_path / "a.dcm", results)
    assert (data.Rows - 16, data.Columns) == (50, 70)  # with the strip of text
    whole = write(tmp_path / "b.dcm", results, full_frame=True)
    assert (whole.Rows - 16, whole.Columns) == (60, 90)


def test_vessels_are_drawn_unless_they_are_hidden(tmp_path: Path) -> None:
    found = result(0, MASK, others={"vessel": disc((60, 90), (75, 30))})
    for vessels in (True, False):
        path = tmp_path / f"{vessels}.dcm"
        sink = BurnedInSink(path, CINE, INFO, ENGINE, vessels=vessels)
        sink.write(found)
        sink.close()
        with open_source(path) as source:
            (frame,) = source
        assert near(frame.image[:60], YELLOW, 60).any()
        blue, _, red = np.moveaxis(frame.image[:60].astype(int), 2, 0)
        assert (blue - red > 80).any() == vessels


def test_what_is_known_of_the_cine_is_copied(tmp_path: Path) -> None:
    known = replace(CINE, burned_in="NO", laterality="L")
    data = write(tmp_path / "a.dcm", [result(0, MASK)], reference=known)
    assert (data.BurnedInAnnotation, data.Laterality) == ("NO", "L")
    assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == CINE.instance_uid
    assert str(data.PatientName) == "Müller^Jörg"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    sink = BurnedInSink(tmp_path / "a.dcm", CINE, INFO, ENGINE)

    def write_all() -> None:
        for number in range(10):
            sink.write(result(number, MASK))
        sink.close()

    with small_files(3000):
        with pytest.raises(SinkError, match="cannot write"):
            write_all()
        sink.close()
    assert list(tmp_path.iterdir()) == []
