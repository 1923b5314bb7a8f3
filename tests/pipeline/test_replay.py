"""The loop: no frame lost, none twice, in order; measured, limited and stopped."""

import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2  # noqa: F401  (before av: the other order hangs OpenCV's window)

# isort: split
import av
import numpy as np
import pytest

from streamseg.backends import FakeBackend, load_backend
from streamseg.backends.fake import ellipse
from streamseg.capture import open_source
from streamseg.core.types import Frame, Result, Roi, State, Tensor
from streamseg.pipeline import replay as replay_module
from streamseg.sinks import open_sink
from streamseg.sinks.records import JsonRecords, read_records
from tests.backends.small_engines import write_engine
from tests.fakes import SPEC, Clip, Collector, index_of, loop_threads, run_replay


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert loop_threads() == []


def test_every_frame_arrives_once_in_order_and_the_report_adds_up() -> None:
    sinks = [Collector(), Collector()]
    seen: list[int] = []
    report = run_replay(Clip(30), sinks, on_result=lambda result: seen.append(result.frame.index))
    assert sinks[0].indices == sinks[1].indices == seen == list(range(30))
    assert [sink.closed for sink in sinks] == [1, 1]
    assert report.frames == 30
    assert report.states == {State.NERVE: 30}
    assert list(report.stages) == ["decode", "preprocess", "infer", "postprocess", "collector"]
    assert {p.count for p in report.stages.values()} == {30}
    assert report.age.count == 30
    assert report.fps is not None
    assert report.seconds > 0
    assert not report.stopped


def test_vessels_of_a_net_with_two_planes_reach_records_and_report(tmp_path: Path) -> None:
    spec = replace(SPEC, structures=("nerve", "vessel"))
    nerve, nothing = ellipse(SPEC), np.zeros((SPEC.height, SPEC.width), np.float32)
    vessel = np.roll(nerve, SPEC.width // 3, axis=1)

    def planes(tensor: Tensor) -> Any:
        return np.stack([nerve, vessel if index_of(tensor) % 2 else nothing])

    class Spaced(Clip):
        def __iter__(self) -> Iterator[Frame]:
            return (replace(frame, spacing_mm=(0.1, 0.1)) for frame in super().__iter__())

    path = tmp_path / "a.jsonl"
    report = run_replay(Spaced(6), [JsonRecords(path, header={})], FakeBackend(spec, planes))
    assert report.outlined == {"nerve": 6, "vessel": 3}
    frames = read_records(path)[1]
    assert [bool(frame["structures"]["vessel"]["polygons"]) for frame in frames] == [False, True] * 3
    assert [frame["nerve_vessel_distance_mm"] is not None for frame in frames] == [False, True] * 3


def test_results_carry_their_own_frame_times_and_age() -> None:
    sink = Collector()
    run_replay(Clip(3), [sink], FakeBackend(SPEC, delay_ms=5), roi=Roi(10, 5, 40, 30))
    for result in sink.results:
        assert list(result.stage_ns) == ["decode", "preprocess", "infer", "postprocess"]
        assert result.stage_ns["infer"] >= 5_000_000
        assert result.age_ns >= result.stage_ns["infer"]
        assert result.roi == Roi(10, 5, 40, 30)
        assert result.segmentation.mask.shape == (64, 96)


def test_decoding_is_measured_and_overlaps_with_inference() -> None:
    report = run_replay(Clip(8, pause=lambda: 0.01), [], FakeBackend(SPEC, delay_ms=10))
    assert report.stages["decode"].p50_ms >= 10
    assert report.stages["infer"].p50_ms >= 10


def test_large_frames_are_read_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven images of 260 MB were in memory at the same time."""
    monkeypatch.setattr(replay_module, "MAX_BYTES", 1)
    alive: list[weakref.ref[Any]] = []
    most = [0]

    class Watched(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for number in range(self.count):
                most[0] = max(most[0], sum(image() is not None for image in alive))
                image = np.full(self.shape, number, np.uint8)
                alive.append(weakref.ref(image))
                yield Frame(image, number, time.monotonic_ns())
                del image

    report = run_replay(Watched(12), [], FakeBackend(SPEC, delay_ms=2))
    assert report.frames == 12
    assert most[0] == 0


def test_an_empty_source_gives_an_empty_report() -> None:
    sink = Collector()
    report = run_replay(Clip(0), [sink])
    assert (report.frames, report.fps, report.states, sink.closed) == (0, None, {}, 1)
    assert report.age.count == 0


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (7, 7), (99, 10)])
def test_max_frames(limit: int, expected: int) -> None:
    clip, sink = Clip(10), Collector()
    assert run_replay(clip, [sink], max_frames=limit).frames == expected
    assert sink.indices == list(range(expected))
    assert clip.given == expected


def test_without_sinks_the_frames_are_counted() -> None:
    assert run_replay(Clip(5), []).frames == 5


def test_lanes_work_at_the_same_time_in_order() -> None:
    """Four frames of which each waits for the next to have begun: one lane alone would never end."""
    begun = [threading.Event() for _ in range(5)]
    begun[4].set()

    def answer(tensor: Tensor) -> np.ndarray:
        index = index_of(tensor)
        begun[index].set()
        assert begun[index + 1].wait(10)
        time.sleep(0.005 * (3 - index))
        return ellipse(SPEC)

    sink = Collector()
    report = run_replay(Clip(4), [sink], FakeBackend(SPEC, answer, lanes=4))
    assert sink.indices == [0, 1, 2, 3]
    assert report.frames == 4


def test_stop_ends_cleanly_with_a_prefix() -> None:
    stop = threading.Event()
    clip, sink = Clip(10_000), Collector()

    def halt(result: Result) -> None:
        if result.frame.index == 5:
            stop.set()

    report = run_replay(clip, [sink], FakeBackend(SPEC, delay_ms=2), stop=stop, on_result=halt)
    assert report.stopped
    assert sink.indices == list(range(report.frames))
    assert 6 <= report.frames <= 12
    assert clip.given <= 20
    assert sink.closed == 1


def test_stop_set_beforehand_reads_nothing() -> None:
    stop = threading.Event()
    stop.set()
    clip, sink = Clip(10), Collector()
    assert run_replay(clip, [sink], stop=stop).frames == 0
    assert (clip.given, sink.closed) == (0, 1)


def test_stop_reaches_a_reader_held_by_a_slow_engine() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    report = run_replay(Clip(10_000), [], FakeBackend(SPEC, delay_ms=50), stop=stop)
    assert report.stopped
    assert report.frames < 100


def test_frames_may_change_size() -> None:
    class Two(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for index, shape in enumerate([(64, 96), (64, 96), (100, 50)]):
                yield Frame(np.zeros(shape, np.uint8), index, time.monotonic_ns())

    sink = Collector()
    run_replay(Two(3), [sink])
    assert [result.segmentation.mask.shape for result in sink.results] == [(64, 96), (64, 96), (100, 50)]


@pytest.mark.parametrize("throughput", [False, True])
def test_a_real_video_through_a_real_engine_into_real_files(tmp_path: Path, throughput: bool) -> None:
    clip, records, video = tmp_path / "in.mkv", tmp_path / "out.jsonl", tmp_path / "out.mp4"
    write_clip(clip, frames=12)
    engine = write_engine(tmp_path / "engine")
    backend = load_backend(engine, throughput=throughput)
    with open_source(str(clip)) as source:
        sinks = [open_sink(path, source.info, header={}, force=False) for path in (records, video)]
        report = run_replay(source, sinks, backend)
    assert report.frames == 12
    assert {"decode", "preprocess", "infer", "postprocess", "records", "video"} <= set(report.stages)
    _, lines = read_records(records)
    assert [line["index"] for line in lines] == list(range(12))
    # The engine calls what is brighter than the mean nerve, and the clip's bright bar moves to the right.
    steps = np.diff([line["centroid"][0] for line in lines])
    assert steps == pytest.approx(np.full(11, 5), abs=1)
    with av.open(str(video)) as written:
        assert sum(1 for _ in written.decode(video=0)) == 12


def write_clip(path: Path, frames: int) -> None:
    """A bright bar that moves 5 pixels to the right in each frame of 128x96."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "gray"
        for index in range(frames):
            image = np.zeros((96, 128), np.uint8)
            image[:, 10 + 5 * index : 40 + 5 * index] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())
