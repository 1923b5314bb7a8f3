"""The rows of a clip, of all structures, and its metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.optional import needs

needs("pyarrow")

import pyarrow.parquet as pq  # noqa: E402

from streamseg.archive.clips import Clip, Shard  # noqa: E402
from streamseg.archive.folder import ArchiveFolder  # noqa: E402
from streamseg.archive.records import FORMAT, ParquetRecords, read_about  # noqa: E402
from streamseg.archive.summary import summarise  # noqa: E402
from streamseg.core.errors import DataError, SinkError, UsageError  # noqa: E402
from streamseg.core.types import Frame, Result, Roi, Segmentation, State, Structure  # noqa: E402


def found(index: int, *, vessel: bool = True) -> Result:
    """A frame of 6 x 8 pixels with a nerve of 6 pixels, and a vessel of 4 or none."""
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:5] = True
    other = np.zeros((6, 8), bool)
    other[4:6, 0:2] = vessel
    outline = np.array([[2, 1], [2, 2], [4, 2], [4, 1]], np.int32)
    structure = Structure(other, (outline,) if vessel else (), int(other.sum()), None, None, 0.5)
    segmentation = Segmentation(
        mask, (outline,), 6, 1.5, (3.0, 1.5), 0.9, State.NERVE, others={"vessel": structure}
    )
    frame = Frame(np.zeros((6, 8), np.uint8), index, 0, pts_seconds=index / 25, file_index=index + 2)
    return Result(frame, segmentation, Roi(0, 0, 8, 6))


def write(folder: ArchiveFolder, clip: Clip, count: int) -> Path:
    place = folder.begin(clip)
    sink = ParquetRecords(place / "records.parquet", source=clip.uri, source_sha256="0" * 64, masks=True)
    for index in range(count):
        sink.write(found(index, vessel=index > 0))
    sink.close()
    sink.finish({"format": FORMAT, "frames": sink.frames})
    folder.publish(clip, sink.path, None)
    return folder.result(clip)


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    made = ArchiveFolder(tmp_path)
    with made.opened({"engine": "a"}, Shard()):
        pass
    return made


def test_a_frame_has_a_row_for_each_structure(folder: ArchiveFolder) -> None:
    path = write(folder, Clip.of("phantom:"), 2)
    rows = pq.read_table(path).to_pylist()
    assert [(row["frame"], row["structure"], row["area_px"]) for row in rows] == [
        (0, "nerve", 6),
        (0, "vessel", 0),
        (1, "nerve", 6),
        (1, "vessel", 4),
    ]
    assert rows[0]["polygons"] == [[2, 1, 2, 2, 4, 2, 4, 1]]
    assert (rows[0]["mask_rle"], rows[1]["mask_rle"]) == ("14 2 20 2 26 2", "")
    assert (rows[1]["polygons"], rows[3]["centroid_x"], rows[2]["area_mm2"]) == ([], None, 1.5)
    assert (rows[2]["time_s"], rows[2]["file_frame"]) == (0.04, 3)
    assert read_about(path)["frames"] == 2


def test_many_frames_are_written_in_parts(folder: ArchiveFolder) -> None:
    path = write(folder, Clip.of("phantom:"), 1200)
    assert pq.read_metadata(path).num_rows == 2400
    assert pq.read_metadata(path).num_row_groups == 3


def test_the_summary_covers_all_clips_and_structures(folder: ArchiveFolder) -> None:
    assert summarise(folder) == {"clips": 0, "frames": 0, "states": {}, "structures": {}}
    for seed in (1, 2):
        write(folder, Clip.of(f"phantom:?seed={seed}"), 3)
    summary = summarise(folder)
    assert (summary["clips"], summary["frames"], summary["states"]) == (2, 6, {"nerve": 6})
    assert {name: of["outlined"] for name, of in summary["structures"].items()} == {"nerve": 6, "vessel": 4}
    assert summary["structures"]["nerve"]["area_mm2"]["p50"] == 1.5
    assert summary["structures"]["vessel"]["area_mm2"] is None


def test_a_worker_that_was_given_up_cannot_publish_its_successors_file(folder: ArchiveFolder) -> None:
    clip = Clip.of("phantom:")
    early = folder.begin(clip) / "records.parquet"
    late = folder.begin(clip) / "records.parquet"
    late.write_bytes(b"half")
    with pytest.raises(SinkError):
        folder.publish(clip, early, None)
    assert not folder.is_published(clip)


def test_a_folder_has_one_run_per_shard_and_one_engine(folder: ArchiveFolder) -> None:
    first, second = Shard(1, 2), Shard(2, 2)
    with (
        folder.opened({"engine": "a"}, first),
        folder.opened({"engine": "a"}, second),
        pytest.raises(UsageError, match="another run is writing"),
        folder.opened({"engine": "a"}, first),
    ):
        pass
    with pytest.raises(UsageError, match="choose another --out"), folder.opened({"engine": "b"}, Shard()):
        pass


def test_a_clip_that_failed_and_is_done_later_has_no_row(folder: ArchiveFolder) -> None:
    clip = Clip.of("phantom:")
    folder.fail(clip, "it is cut")
    assert (folder.write_failed(), folder.failures()) == (1, {clip.key})
    write(folder, clip, 1)
    assert (folder.write_failed(), folder.failures()) == (0, set())
    assert pq.read_table(folder.root / "failed.parquet").num_rows == 0


def test_a_damaged_file_is_named(folder: ArchiveFolder) -> None:
    path = folder.clips / "x-0000000000000000.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="remove it, so that its clip is done again"):
        read_about(path)
