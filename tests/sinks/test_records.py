import csv
import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamseg.core.errors import DataError
from streamseg.core.outline_distance import nerve_vessel_distance_mm
from streamseg.core.types import Roi, State
from streamseg.sinks import CsvRecords, JsonRecords, read_records
from tests.full_disk import largest_file
from tests.render.examples import result, with_vessel

HEADER = {
    "source": "clip",
    "engine": {"name": "net", "sha256": "ab"},
    "roi": Roi(1, 2, 3, 4),
    "x": float("nan"),
}


def write_all(path, results, header=HEADER):
    sink = JsonRecords(path, header=header)
    for each in results:
        sink.write(each)
    sink.close()


def test_header_and_frames_come_back(tmp_path):
    path = tmp_path / "out.jsonl"
    subject = result(pts=1 / 3)
    subject = replace(subject, segmentation=replace(subject.segmentation, area_mm2=12.5))
    write_all(path, [subject, result(state=State.NO_NERVE, index=4, pts=None)])
    header, (frame, empty) = read_records(path)
    assert next(iter(header)) == "type"
    assert header["source"] == "clip"
    assert header["engine"] == {"name": "net", "sha256": "ab"}
    assert header["roi"] == "1,2,3,4"
    assert header["x"] is None
    assert datetime.fromisoformat(header["created"]).tzinfo is not None
    assert "not a medical device" in header["notice"]
    assert (frame["index"], frame["pts"], frame["state"], frame["area"]) == (3, 1 / 3, "nerve", 12.5)
    assert frame["area_px"] == subject.segmentation.area_px
    assert frame["centroid"] == [150.0, 100.0]
    assert np.array_equal(np.array(frame["polygons"][0]), subject.segmentation.contours[0])
    assert frame["stages_ms"] == {"infer": 10.0}
    assert frame["age_ms"] == 12.0
    assert (empty["pts"], empty["area"], empty["centroid"], empty["polygons"]) == (None, None, None, [])
    assert (empty["state"], empty["area_px"]) == ("no nerve", 0)


def test_header_cannot_replace_the_format(tmp_path):
    path = tmp_path / "out.jsonl"
    write_all(path, [], {"type": "frame", "format": "mine", "path": Path("a"), "rate": Fraction(1, 3)})
    header, frames = read_records(path)
    assert header["type"] == "header"
    assert header["format"] == "streamseg-records-1"
    assert (header["path"], header["rate"], frames) == ("a", "1/3", [])


def test_json_is_strict(tmp_path):
    path = tmp_path / "out.jsonl"
    subject = result(pts=float("nan"))
    segment = replace(
        subject.segmentation, confidence=float("inf"), area_px=np.int64(7), centroid=(1.0, np.nan)
    )
    write_all(path, [replace(subject, segmentation=segment)])

    def refuse(constant):
        raise AssertionError(constant)

    frame = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()][1]
    assert (frame["pts"], frame["confidence"], frame["area_px"]) == (None, None, 7)
    assert frame["centroid"] == [1.0, None]


def test_lines_are_there_as_soon_as_they_are_written(tmp_path):
    sink = JsonRecords(tmp_path / "out.jsonl", header=HEADER)
    for count in range(3):
        assert len(read_records(tmp_path / "out.jsonl")[1]) == count
        sink.write(result(index=count))
    sink.close()


def test_an_incomplete_last_line_is_skipped_and_damage_is_an_error(tmp_path):
    path = tmp_path / "out.jsonl"
    write_all(path, [result(index=index) for index in range(3)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert [frame["index"] for frame in read_records(path)[1]] == [0, 1]
    for damaged, message in (
        (whole.replace(b'"pts"', b"pts", 1).replace(b'"index"', b"index", 2), "line"),
        (whole.split(b"\n", 1)[1], "line 1"),
        (b"[1]\n", "line 1"),
        (b"\xff\xfe\n", "line 1"),
        (b"", "no header"),
        (whole[:30], "no header"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message) as caught:
            read_records(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot read"):
        read_records(tmp_path / "absent.jsonl")


def test_csv_holds_the_same_values(tmp_path):
    path = tmp_path / "out.csv"
    sink = CsvRecords(path)
    subjects = [result(index=0, pts=0.5), result(state=State.NO_NERVE, index=1, pts=None)]
    for subject in subjects:
        sink.write(subject)
    sink.close()
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["index"], first["pts"], first["state"], first["area"]) == ("0", "0.5", "nerve", "")
    assert (first["centroid_x"], first["centroid_y"], first["confidence"]) == ("150.0", "100.0", "0.8")
    assert json.loads(first["polygons"]) == [subjects[0].segmentation.contours[0].tolist()]
    assert json.loads(first["stages_ms"]) == {"infer": 10.0}
    assert (second["pts"], second["centroid_x"], second["polygons"]) == ("", "", "[]")


def vessel_result(spacing_mm=(0.1, 0.2), **kinds):
    """A result of an engine that outlines vessels too."""
    subject = result(index=5, **{name: value for name, value in kinds.items() if name != "empty"})
    return replace(
        subject,
        frame=replace(subject.frame, spacing_mm=spacing_mm),
        segmentation=with_vessel(
            subject.segmentation, empty=kinds.get("empty", False), spacing_mm=spacing_mm
        ),
    )


def test_structures_are_recorded_beside_the_keys_of_the_nerve(tmp_path):
    path = tmp_path / "out.jsonl"
    subjects = [
        vessel_result(),
        vessel_result(None),
        vessel_result(empty=True),
        vessel_result(state=State.NO_NERVE),
    ]
    write_all(path, subjects)
    lines = [json.loads(line) for line in path.read_text().splitlines()][1:]
    assert list(lines[0])[:2] == ["type", "index"]  # readers of recordings look for the line's beginning
    vessel = subjects[0].segmentation.others["vessel"]
    assert lines[0]["structures"] == {
        "nerve": {
            **{name: lines[0][name] for name in ("polygons", "area_px", "centroid", "confidence")},
            "area_mm2": lines[0]["area"],
        },
        "vessel": {
            "polygons": [contour.tolist() for contour in vessel.contours],
            "area_px": vessel.area_px,
            "area_mm2": pytest.approx(vessel.area_px * 0.02),
            "centroid": [250.0, 100.0],
            "confidence": 0.9,
        },
    }
    apart = nerve_vessel_distance_mm(subjects[0].segmentation, (0.1, 0.2))
    assert lines[0]["nerve_vessel_distance_mm"] == apart > 3
    assert [line["nerve_vessel_distance_mm"] for line in lines[1:]] == [None] * 3
    assert lines[1]["structures"]["vessel"]["area_mm2"] is None
    nothing = {"polygons": [], "area_px": 0, "centroid": None, "confidence": 0.9}
    assert lines[2]["structures"]["vessel"] == {**nothing, "area_mm2": 0.0}
    assert (lines[3]["state"], lines[3]["structures"]["nerve"]["polygons"]) == ("no nerve", [])
    assert lines[3]["structures"]["vessel"] == lines[0]["structures"]["vessel"]


def test_an_engine_for_nerves_alone_writes_no_more_than_before(tmp_path):
    path = tmp_path / "out.jsonl"
    write_all(path, [result()])
    line = json.loads(path.read_text().splitlines()[1])
    assert list(line) == [
        *("type", "index", "pts", "state", "area", "area_px", "centroid", "confidence", "polygons"),
        *("stages_ms", "age_ms"),
    ]


def test_readers_find_structures_in_every_file(tmp_path):
    path = tmp_path / "out.jsonl"
    subject = result()
    subject = replace(subject, segmentation=replace(subject.segmentation, area_mm2=12.5))
    write_all(path, [subject, vessel_result()])
    _, (alone, both) = read_records(path)
    assert alone["structures"] == {
        "nerve": {
            "polygons": alone["polygons"],
            "area_px": subject.segmentation.area_px,
            "area_mm2": 12.5,
            "centroid": [150.0, 100.0],
            "confidence": 0.8,
        }
    }
    assert list(both["structures"]) == ["nerve", "vessel"]


def test_csv_has_the_columns_of_the_vessel_last(tmp_path):
    path = tmp_path / "out.csv"
    sink = CsvRecords(path)
    subjects = [vessel_result(), vessel_result(empty=True), result(index=6)]
    for subject in subjects:
        sink.write(subject)
    sink.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    vessel = subjects[0].segmentation.others["vessel"]
    assert list(rows[0])[:11] == [
        *("index", "pts", "state", "area", "area_px", "centroid_x", "centroid_y", "confidence"),
        *("age_ms", "stages_ms", "polygons"),
    ]
    ours = [name for name in rows[0] if "vessel" in name]
    assert list(rows[0])[11:] == ours
    assert [rows[0][name] for name in ours[:5]] == [
        *(str(vessel.area_mm2), str(vessel.area_px), "250.0", "100.0", "0.9")
    ]
    assert json.loads(rows[0]["vessel_polygons"]) == [vessel.contours[0].tolist()]
    apart = nerve_vessel_distance_mm(subjects[0].segmentation, (0.1, 0.2))
    assert float(rows[0]["nerve_vessel_distance_mm"]) == apart
    assert [rows[1][name] for name in ours] == ["0.0", "0", "", "", "0.9", "[]", ""]
    assert [rows[2][name] for name in ours] == [""] * 7


FULL_DISK = """
import sys
from pathlib import Path
from streamseg.core.errors import SinkError
from streamseg.sinks import open_sink
from streamseg.core.types import SourceInfo
from tests.render.examples import result
try:
    sink = open_sink(sys.argv[1], SourceInfo("x", 1, 1), header={})
    while True:
        sink.write(result())
except SinkError as error:
    print(error)
for again in range(2):
    try:
        sink.write(result())
    except SinkError as error:
        print(error)
sink.close()
print(sink.frames)
"""


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_full_disk_leaves_whole_lines(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"

    command = [sys.executable, "-c", FULL_DISK, str(path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command,
        preexec_fn=largest_file(20_000),
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third, frames = done.stdout.splitlines()
    assert (
        first
        == f"cannot write {path}: File too large; the limit on file sizes was reached; what was finished "
        + ("before is readable")
    )
    assert second == third
    assert "earlier error" in second
    assert path.read_bytes().endswith(b"\n")
    assert path.stat().st_size <= 20_000
    if suffix == ".jsonl":
        assert len(read_records(path)[1]) == int(frames) > 0
