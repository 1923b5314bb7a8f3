"""Counting at both ends."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamseg.benchmark.pipeline import counting
from streamseg.benchmark.pipeline.clip import FrameSource
from streamseg.benchmark.pipeline.counting import CountedSource, Ledger, LoopedClip
from streamseg.core.errors import SourceError
from streamseg.core.types import Frame
from tests.benchmark.small_clip import FRAMES, write_clip
from tests.fakes import Clip


def memory(count: int) -> FrameSource:
    return FrameSource([Frame(np.zeros((8, 8), np.uint8), 0, 0)], 30.0, count)


class Skipping(FrameSource):
    """Leaves out every third frame."""

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame in super().__iter__() if frame.index % 3 != 2)


def test_offered_is_what_was_taken() -> None:
    with CountedSource(memory(10)) as source:
        frames = iter(source)
        for _ in range(4):
            next(frames)
    assert (source.offered, source.skipped) == (4, 0)
    assert source.live is False
    assert source.fps is not None


def test_a_rate_needs_two_frames() -> None:
    source = CountedSource(memory(1))
    list(source)
    assert source.fps is None


def test_a_source_that_skips_is_seen_by_its_numbers() -> None:
    source = CountedSource(Skipping([Frame(np.zeros((8, 8), np.uint8), 0, 0)], 30.0, 10))
    ledger = Ledger()
    for frame in source:
        ledger.came_out(frame.index, frame.captured_ns)
    assert (source.offered, source.skipped) == (7, 3)
    assert "3 frames were left out by the source itself, by their numbers" in ledger.notes(source)


def test_a_clip_is_read_again_until_enough_frames_came(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    count = 2 * FRAMES + 5
    with LoopedClip(str(path), count) as source:
        frames = list(source)
        assert source.info.width == 160
    assert [frame.index for frame in frames] == list(range(count))
    assert np.array_equal(frames[0].image, frames[FRAMES].image)


def test_damage_ends_a_turn_not_the_clip(monkeypatch) -> None:
    monkeypatch.setattr(counting, "open_source", lambda uri: Clip(6, fail_at=4))
    with LoopedClip("damaged", 10) as source:
        assert [frame.index for frame in source] == list(range(10))


@pytest.mark.parametrize("empty", [Clip(0), Clip(3, fail_at=0)])
def test_a_clip_without_frames_ends_with_an_error(monkeypatch, empty: Clip) -> None:
    monkeypatch.setattr(counting, "open_source", lambda uri: empty)
    with LoopedClip("empty", 10) as source, pytest.raises(SourceError):
        list(source)


def test_a_closed_clip_is_not_opened_again(tmp_path: Path) -> None:
    source = LoopedClip(str(write_clip(tmp_path / "clip.mp4")), 1000)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_what_comes_out_twice_or_late_is_told_and_counted_once() -> None:
    source = CountedSource(memory(5))
    frames = list(source)
    ledger = Ledger()
    order = [0, 1, 1, 3, 2]
    counted = [ledger.came_out(frames[k].index, 10**9 * number) for number, k in enumerate(order)]
    assert counted == [True, True, False, True, True]
    assert ledger.processed == 4
    assert ledger.fps == pytest.approx(3 / 4)
    assert ledger.last_ns == 4 * 10**9
    assert ledger.notes(source) == ["1 frames came out twice", "1 frames came out of their order"]


def test_a_frame_that_was_never_offered_is_told() -> None:
    source = CountedSource(memory(1))
    (frame,) = source
    ledger = Ledger()
    ledger.came_out(replace(frame, index=7).index, 5)
    assert ledger.notes(source) == ["1 frames came out that were never offered"]
    assert ledger.fps is None
    assert Ledger().last_ns is None
