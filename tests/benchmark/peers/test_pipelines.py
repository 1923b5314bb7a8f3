"""Other pipelines on a small clip, with an engine whose answer is known. OpenCV and supervision are real."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.peers.peer import Peer, prepare
from streamseg.benchmark.peers.pipelines import (
    OURS_DRAWN,
    OURS_FIGURES,
    OURS_WRITTEN,
    PlainModel,
    Task,
    frames_in,
    pipelines,
    plain_loop,
)
from streamseg.capture import open_source
from streamseg.core.errors import EngineError, SinkError, SourceError
from streamseg.core.types import Backend, Frame, Roi
from streamseg.segmentation.segmenter import Segmenter
from tests.benchmark.fakes import FRAMES, HEIGHT, REGION, SPEC, WIDTH, write_clip


def fake(throughput: bool) -> Backend:
    return FakeBackend(SPEC, lanes=2 if throughput else 1)


def ready(
    clip: Clip, folder: Path, load: Callable[[bool], Backend] = fake
) -> tuple[dict[str, Peer], dict[str, str]]:
    absent: dict[str, str] = {}
    ended: list[Callable[[], None]] = []
    task = Task(
        clip,
        FRAMES - 2,
        load,
        folder,
        exact=lambda: load(True),
        onnx=lambda: folder / "model.onnx",
        at_end=ended.append,
    )
    peers = prepare("pipeline", pipelines(task), absent, lambda _: None)
    return {peer.name: peer for peer in peers}, {
        name: why for name, why in absent.items() if "from PNG" not in name
    }


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
        assert peer.row.frames == FRAMES - 2
        assert peer.row.ours == name.startswith("streamseg")
        assert peer.row.ours or peer.row.mask_dice == 1
        written = "to" in name.split()
        assert peer.row.against == (name if peer.row.ours else OURS_WRITTEN if written else OURS_DRAWN)


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
        "streamseg.benchmark.peers.pipelines.PlainModel.mask",
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


def test_an_engine_that_cannot_be_loaded_leaves_only_reasons(clip: Clip, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("roi", [REGION, Roi(0, 0, 60, 90), Roi(3, 5, 101, 33), None])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_its_masks_are_ours(roi: Roi | None, channels: tuple[int, ...]) -> None:
    backend = FakeBackend(SPEC)
    image = np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH, *channels), np.uint8)
    ours = Segmenter(backend, roi, withhold=False).segment(Frame(image, 0, 0)).mask
    found = PlainModel(backend, roi).mask(image)
    assert ours.any()
    assert np.array_equal(found, ours)


def test_it_feeds_the_net_as_ours_does() -> None:
    fed = []

    def remember(tensor):
        fed.append(tensor.copy())
        return np.zeros((SPEC.height, SPEC.width), np.float32)

    backend = FakeBackend(SPEC, remember)
    image = np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    PlainModel(backend, REGION).mask(image)
    assert np.abs(fed[0] - Segmenter(backend, REGION).prepare(Frame(image, 0, 0)).tensor).max() < 1e-5


def test_every_frame_is_drawn_or_written(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 15)
    model = PlainModel(FakeBackend(SPEC), REGION)
    assert plain_loop(str(clip), model, 100, None, 30) == 15
    target = tmp_path / "out.mp4"
    assert plain_loop(str(clip), model, 10, target, 30) == 10
    with open_source(target) as source:
        frames = list(source)
    assert [frame.image.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 10
    with open_source(clip) as source:
        before = next(iter(source)).image
    assert np.abs(frames[0].image.astype(int) - before.reshape(HEIGHT, WIDTH, -1)).max() > 60


def test_files_that_opencv_cannot_read_or_write(tmp_path: Path) -> None:
    model = PlainModel(FakeBackend(SPEC), REGION)
    with pytest.raises(SourceError, match="OpenCV cannot read"):
        plain_loop(str(tmp_path / "none.mp4"), model, 10, None, 30)
    clip = write_clip(tmp_path / "clip.mp4", 3)
    with pytest.raises(SinkError, match="OpenCV cannot write"):
        plain_loop(str(clip), model, 10, tmp_path / "missing" / "out.mp4", 30)
