import threading

import cv2
import numpy as np

from streamseg.display import snapshots as module
from streamseg.display.snapshots import Snapshots
from tests.waiting import wait_for

GREY = np.arange(12_000, dtype=np.uint8).reshape(100, 120)
COLOUR = np.random.default_rng(1).integers(0, 255, (90, 70, 3), np.uint8)


class Noon:
    """A clock that stands still: every snapshot is of the same moment."""

    @staticmethod
    def now():
        return module.datetime_class(2026, 8, 1, 12, 0, 0, 5000)


def test_both_images_are_saved_unchanged(tmp_path):
    snapshots = Snapshots(tmp_path / "made" / "here")
    snapshots.take(GREY, COLOUR)
    news = wait_for(snapshots.news)
    original, annotated = sorted((tmp_path / "made" / "here").iterdir(), key=lambda path: len(path.name))
    assert original.name in news
    assert annotated.name == f"{original.stem}-annotated.png"
    assert np.array_equal(cv2.imread(str(original), cv2.IMREAD_UNCHANGED), GREY)
    assert np.array_equal(cv2.imread(str(annotated), cv2.IMREAD_UNCHANGED), COLOUR)
    snapshots.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "streamseg-snapshots"]


def test_nothing_is_overwritten_if_the_clock_does_not_advance(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "datetime_class", module.datetime, raising=False)
    monkeypatch.setattr(module, "datetime", Noon)
    snapshots = Snapshots(tmp_path)
    for level in range(3):
        snapshots.take(np.full((8, 8), level, np.uint8), COLOUR)
        wait_for(snapshots.news)
    names = ["snapshot-20260801-120000-005.png", "snapshot-20260801-120000-005-2.png"]
    names.append("snapshot-20260801-120000-005-3.png")
    assert [int(cv2.imread(str(tmp_path / name)).mean()) for name in names] == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 6
    snapshots.close()


def test_a_folder_that_cannot_be_written_is_reported_and_ends_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    snapshots = Snapshots(tmp_path / "file")
    for _ in range(2):
        snapshots.take(GREY, COLOUR)
        news = wait_for(snapshots.news)
        assert news.startswith(f"no snapshot: cannot write to {tmp_path / 'file'}: ")
    snapshots.close()


def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

        def write(self, data):
            raise OSError(28, "No space left on device")

    def open_full(path, mode):
        path.touch()
        return Full()

    monkeypatch.setattr(module.Path, "open", open_full)
    snapshots = Snapshots(tmp_path)
    snapshots.take(GREY, COLOUR)
    assert wait_for(snapshots.news).endswith(": No space left on device")
    assert not list(tmp_path.iterdir())
    snapshots.close()


def test_a_slow_disk_refuses_more_and_never_blocks(tmp_path, monkeypatch):
    go = threading.Event()
    real = module._write_new
    monkeypatch.setattr(module, "_write_new", lambda path, data: (go.wait(60), real(path, data)))
    snapshots = Snapshots(tmp_path)
    for _ in range(10):
        snapshots.take(GREY, COLOUR)
    assert wait_for(snapshots.news) == "no snapshot: the disk is still busy with earlier ones"
    go.set()
    wait_for(lambda: len(list(tmp_path.iterdir())) in (6, 8))
    snapshots.close()


def test_closing_waits_for_queued_snapshots(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.close()
    snapshots.take(GREY, COLOUR)
    snapshots.close()
    assert len(list(tmp_path.iterdir())) == 2
