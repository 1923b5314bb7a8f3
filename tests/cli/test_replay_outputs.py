"""Planning and checking outputs before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg.cli.replay_outputs import check_outputs, plan_outputs
from streamseg.core.errors import UsageError


def test_one_clip_writes_the_named_files() -> None:
    plan = plan_outputs(
        ["a.mp4"], folder=False, video=Path("x.mkv"), records=[Path("x.jsonl"), Path("x.CSV")]
    )
    assert plan == [[Path("x.mkv"), Path("x.jsonl"), Path("x.CSV")]]


@pytest.mark.parametrize(
    ("video", "records", "message"),
    [
        (Path("x.gif"), [], r"--out x.gif ends in '.gif'; choose one of .mp4"),
        (Path("x"), [], r"--out x has no suffix; choose one of .mp4"),
        (Path("x.jsonl"), [], r"--out x.jsonl ends in '.jsonl'"),
        (None, [Path("x.json")], r"--records x.json ends in '.json'; choose one of .jsonl, .csv"),
    ],
)
def test_a_wrong_suffix_names_the_right_ones(video: Path | None, records: list[Path], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_outputs(["a.mp4"], folder=False, video=video, records=records)


def test_clips_of_a_folder_get_files_of_their_own_names() -> None:
    plan = plan_outputs(["d/a.mp4", "d/b.dcm"], folder=True, video=Path("out"), records=[Path("rec.csv")])
    assert plan == [[Path("out/a.mp4"), Path("rec/a.csv")], [Path("out/b.mp4"), Path("rec/b.csv")]]


def test_a_folder_with_a_dot_in_its_name_is_a_folder(tmp_path: Path) -> None:
    taken = tmp_path / "of.mp4"
    taken.mkdir()
    plan = plan_outputs(["a.avi"], folder=True, video=taken, records=[tmp_path / "2026.11"])
    assert plan == [[taken / "a.mp4", tmp_path / "2026.11" / "a.jsonl"]]


def test_clips_of_one_stem_do_not_overwrite_one_another() -> None:
    plan = plan_outputs(["a.mp4", "a.avi", "b.avi"], folder=True, video=Path("o"), records=[])
    assert plan == [[Path("o/a.mp4.mp4")], [Path("o/a.avi.mp4")], [Path("o/b.mp4")]]


def test_check_refuses_what_would_lose_a_file(tmp_path: Path) -> None:
    there = tmp_path / "there.mp4"
    there.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"exists; choose another name, or overwrite it with --force"):
        check_outputs([there], ["clip.mp4"], force=False)
    check_outputs([there], ["clip.mp4"], force=True)
    with pytest.raises(UsageError, match="is the source itself"):
        check_outputs([tmp_path / "x" / ".." / "there.mp4"], [str(there)], force=True)
    with pytest.raises(UsageError, match="given twice"):
        check_outputs([tmp_path / "a.csv", tmp_path / "a.csv"], ["clip.mp4"], force=True)
    assert there.read_bytes() == b"precious"


def test_check_refuses_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(UsageError, match="is a file, not a folder"):
        check_outputs([tmp_path / "file" / "new" / "x.mp4"], ["clip.mp4"], force=False)
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        check_outputs([tmp_path / "dir.mp4"], ["clip.mp4"], force=True)
    check_outputs([tmp_path / "new" / "folder" / "x.mp4"], ["clip.mp4"], force=False)
    assert not (tmp_path / "new").exists()
