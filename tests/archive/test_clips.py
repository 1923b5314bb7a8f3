"""Which clips an archive has, under which keys, and how they are divided among runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.optional import needs

needs("pyarrow")

from streamseg.archive.clips import Clip, Shard, find_clips  # noqa: E402
from streamseg.core.errors import SourceError, UsageError  # noqa: E402


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Clips at three depths, a folder of images, notes, hidden files, and results of an earlier run."""
    root = tmp_path / "in"
    for name in ("b10.mp4", "b2.mp4", "below/c.dcm", "below/deep/d.avi", "images/1.png", "notes/readme.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "e.mp4").write_bytes(b"x")
    (root / "results" / "videos").mkdir(parents=True)
    (root / "results" / "videos" / "f.mp4").write_bytes(b"x")
    (root / "loop").symlink_to(root)
    return root


def test_folders_are_searched_with_all_below_them(tree: Path) -> None:
    said: list[str] = []
    found = find_clips([str(tree), str(tree / "b2.mp4")], leave_out=tree / "results", say=said.append)
    names = [Path(clip.uri).relative_to(tree.resolve()).as_posix() for clip in found]
    assert names == ["b2.mp4", "b10.mp4", "below/c.dcm", "below/deep/d.avi", "images"]
    assert len(said) == 1
    assert "notes" in said[0]


def test_what_is_missing_or_empty_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        find_clips([str(tmp_path / "none.mp4")], leave_out=tmp_path / "out")
    with pytest.raises(SourceError, match="no clip in"):
        find_clips([str(tmp_path)], leave_out=tmp_path / "out")


def test_a_key_depends_on_the_place_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    clip = Clip.of("below/../b2.mp4")
    assert clip == Clip.of(str(tree / "b2.mp4"))
    assert clip.name == f"b2-{clip.key}"
    assert Clip.of("phantom:?seed=1").uri == "phantom:?seed=1"
    assert Clip.of("/x/Ä b\n.mp4").name.isascii()


def test_shards_divide_the_clips() -> None:
    clips = [Clip.of(f"phantom:?seed={seed}") for seed in range(200)]
    shards = [Shard.parse(f"{index}/3") for index in (1, 2, 3)]
    assert all(sum(shard.has(clip) for shard in shards) == 1 for clip in clips)
    assert all(sum(shard.has(clip) for clip in clips) > 40 for shard in shards)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)
