"""Other pipelines on a small clip, with an engine whose answer is known. OpenCV and supervision are real."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.peers.peer import Peer, prepare
from streamseg.benchmark.peers.pipelines import (
    OURS_DRAWN,
    OURS_FIGURES,
    OURS_WRITTEN,
    Task,
    frames_in,
    pipelines,
)
from streamseg.benchmark.pipeline.clip import Clip
from streamseg.capture import open_source
from streamseg.core.errors import EngineError
from streamseg.core.types import Backend
from tests.benchmark.meddling import SPEC
from tests.benchmark.small_clip import FRAMES, HEIGHT, WIDTH, small_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return small_clip(tmp_path_factory.mktemp("clip"))


def fake(throughput: bool) -> Backend:
    return FakeBackend(SPEC, lanes=2 if throughput else 1)


def ready(
    clip: Clip, folder: Path, load: Callable[[bool], Backend] = fake
) -> tuple[dict[str, Peer], dict[str, str]]:
    absent: dict[str, str] = {}
    task = Task(clip, FRAMES - 2, load, folder)
    peers = prepare("pipeline", pipelines(task), absent, lambda _: None)
    return {peer.name: peer for peer in peers}, absent


def test_each_gives_every_frame(clip: Clip, tmp_path: Path) -> None:
    pytest.importorskip("supervision")
    peers, absent = ready(clip, tmp_path)
    assert absent == {}
    assert list(peers) == [
        OURS_DRAWN,
        OURS_WRITTEN,
        OURS_FIGURES,
        "OpenCV loop, drawn",
        "OpenCV loop, to MPEG-4",
        "supervision, drawn",
        "supervision, to MPEG-4",
    ]
    for name, peer in peers.items():
        assert peer.call() == FRAMES - 2, name
        if peer.delivered is not None:
            assert peer.delivered() == FRAMES - 2, name
        assert peer.frames == FRAMES - 2
        assert peer.ours == name.startswith("streamseg")
        assert peer.ours or peer.facts["mask_dice"] == 1
        written = "to" in name.split()
        assert peer.against == (name if peer.ours else OURS_WRITTEN if written else OURS_DRAWN)


def test_videos_of_the_same_kind_show_the_same(clip: Clip, tmp_path: Path) -> None:
    """The whole frame at its size, with an outline in it."""
    pytest.importorskip("supervision")
    peers, _ = ready(clip, tmp_path)
    pictures = {}
    for name in (OURS_WRITTEN, "OpenCV loop, to MPEG-4", "supervision, to MPEG-4"):
        peers[name].call()
    for path in tmp_path.glob("*.mp4"):
        with open_source(path) as source:
            pictures[path.stem] = next(iter(source)).image.astype(int)
    assert set(pictures) == {"streamseg", "opencv", "supervision"}
    for name, picture in pictures.items():
        assert picture.shape == (HEIGHT, WIDTH, 3), name
        coloured = np.abs(picture - picture.mean(axis=2, keepdims=True)).max(axis=2) > 30
        assert coloured.any(), name
        assert coloured.mean() < 0.2, name


def test_a_peer_that_finds_something_else_is_left_out(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "streamseg.benchmark.peers.plain_loop.PlainModel.mask",
        lambda self, frame: np.ones(frame.shape[:2], bool),
    )
    peers, absent = ready(clip, tmp_path)
    assert list(peers) == [OURS_DRAWN, OURS_WRITTEN, OURS_FIGURES]
    assert all("finds something else" in reason for reason in absent.values())


def test_without_supervision_the_others_run(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    peers, absent = ready(clip, tmp_path)
    assert "OpenCV loop, drawn" in peers
    assert set(absent) == {"pipeline supervision, drawn", "pipeline supervision, to MPEG-4"}
    assert all("streamseg[bench]" in reason for reason in absent.values())


def test_an_engine_that_cannot_be_loaded_leaves_nothing_but_reasons(clip: Clip, tmp_path: Path) -> None:
    def broken(_throughput: bool) -> Backend:
        raise EngineError("no such engine")

    peers, absent = ready(clip, tmp_path, broken)
    assert peers == {}
    assert set(absent.values()) <= {"no such engine"} | {r for r in absent.values() if "bench" in r}


def test_a_clip_that_opencv_cannot_read(clip: Clip, tmp_path: Path) -> None:
    peers, _ = ready(replace(clip, uri=str(tmp_path / "gone.mp4")), tmp_path)
    with pytest.raises(Exception, match="OpenCV cannot read"):
        peers["OpenCV loop, drawn"].call()


def test_a_clips_frames_are_counted_by_decoding(clip: Clip) -> None:
    assert frames_in(clip.uri, 5) == 5
    assert frames_in(clip.uri, 500) == FRAMES
