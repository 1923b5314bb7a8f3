from fractions import Fraction

import pytest

from streamseg.core.errors import SinkError, UsageError
from streamseg.core.types import Sink, SourceInfo
from streamseg.sinks import CsvRecords, JsonRecords, NullSink, VideoSink, open_sink
from tests.render.examples import result

INFO = SourceInfo("clip", 200, 300, rate=Fraction(25), time_base=Fraction(1, 1000))
KINDS = {".mp4": VideoSink, ".MKV": VideoSink, ".mov": VideoSink, ".ts": VideoSink}
KINDS |= {".jsonl": JsonRecords, ".csv": CsvRecords}


@pytest.mark.parametrize("suffix", KINDS)
def test_every_sink_keeps_the_contract(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"out{suffix}"
    sink = open_sink(path, INFO, header={})
    assert isinstance(sink, KINDS[suffix])
    assert isinstance(sink, Sink)
    for index in range(3):
        sink.write(result(index=index, pts=index / 25))
    sink.close()
    sink.close()
    assert sink.frames == 3
    assert sink.path == path
    assert path.stat().st_size > 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(SinkError, match="closed"):
        sink.write(result())


def test_the_null_sink_only_counts():
    sink = open_sink("null:", INFO, header={})
    assert isinstance(sink, NullSink)
    sink.write(result())
    sink.close()
    assert sink.frames == 1


@pytest.mark.parametrize("name", ["out.gif", "out", "out.avi", "out.json", ".mp4x", ""])
def test_unknown_suffix_names_the_known_ones(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.mp4.*\.jsonl.*null:"):
        open_sink(tmp_path / name, INFO, header={})


@pytest.mark.parametrize("suffix", [".mp4", ".jsonl", ".csv"])
def test_existing_file_stays_without_force(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    path.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        open_sink(path, INFO, header={})
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".mp4", ".jsonl", ".csv"])
def test_force_replaces_only_once_the_new_file_is_there(tmp_path, suffix):
    path, link = tmp_path / f"out{suffix}", tmp_path / f"link{suffix}"
    path.write_text("old")
    link.symlink_to(path)
    sink = open_sink(link, INFO, header={}, force=True)
    if suffix == ".mp4":
        assert path.read_text() == "old"
    sink.write(result())
    sink.close()
    assert path.read_bytes()[:3] != b"old"
    assert link.is_symlink()


def test_video_without_frames_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_text("old")
    open_sink(path, INFO, header={}, force=True).close()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".mp4", ".jsonl", ".csv"])
def test_paths_that_cannot_be_written_are_refused(tmp_path, suffix):
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        open_sink(tmp_path / f"folder{suffix}", INFO, header={}, force=True)
    (tmp_path / "file").touch()
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    for path in (
        tmp_path / f"loop{suffix}",
        tmp_path / "file" / f"out{suffix}",
        tmp_path / f"{'x' * 300}{suffix}",
    ):
        with pytest.raises(SinkError, match="cannot write") as caught:
            open_sink(path, INFO, header={})
        assert "\n" not in str(caught.value)
    with pytest.raises(SinkError, match="cannot write"):
        open_sink(f"/proc/out{suffix}", INFO, header={})
