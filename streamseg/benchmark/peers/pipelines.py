"""Other pipelines from a clip's file to its outlines, with the same engine and the same region.

One run is everything from opening the file to the last frame, drawn and thrown away, or written to a video:
frames per second are all frames / all of that time. The peers' frames are counted where they come out; those
of a video are counted in the file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg.benchmark.clip import Clip
from streamseg.benchmark.peers.fast import Fast, command_of_fast, write_frames
from streamseg.benchmark.peers.peer import Maker, Peer, five_digits, need, probes, version
from streamseg.benchmark.pipeline.replay_run import end_to_end
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.capture import open_source
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, SinkError, SourceError
from streamseg.core.types import Backend, Frame, Image, Mask, Result, Roi
from streamseg.evaluation.overlap import Confusion
from streamseg.export.gate import MIN_ROUGH_MASK_DICE
from streamseg.pipeline.replay import replay
from streamseg.render import compose_plain
from streamseg.segmentation.preprocess import to_tensor
from streamseg.segmentation.segmenter import Segmenter
from streamseg.sinks import VideoSink

OURS_DRAWN, OURS_WRITTEN = "streamseg, drawn", "streamseg, to H.264"
"""The output that the peers make: the whole frame with its outline."""
OURS_PNG, FAST = "streamseg FP32, from PNG", "FAST FP32, from PNG"
"""The same net in FP32, from PNG files of the region to masks or outlines."""
PNG_FRAMES = 32
"""Files at most: FAST is slow."""
OURS_FIGURES = "streamseg, drawn with figures"
"""The output of ``streamseg replay`` by default: the region, and the panel of figures."""


@dataclass(repr=False)
class Task:
    """What all pipelines are given."""

    clip: Clip
    frames: int
    """Of the clip, from its first on; no more than it has."""
    load: Callable[[bool], Backend]
    """Loads the engine: True for several frames at a time, at the highest rate."""
    folder: Path
    """Scratch."""
    exact: Callable[[], Backend]
    """Loads our FP32 engine, at the highest rate."""
    onnx: Callable[[], Path]
    """Writes the same net for others."""
    at_end: Callable[[Callable[[], None]], None]
    """Has something called after all is measured."""

    @cached_property
    def png(self) -> str:
        """The region of the first frames as grey PNG files, by the name that FAST takes."""
        with open_source(self.clip.uri) as source:
            images = [
                (self.clip.roi or Roi.whole(frame.grey())).crop(frame.grey())
                for frame in islice(source, min(self.frames, PNG_FRAMES))
            ]
        return write_frames(images, self.folder / "png")

    @property
    def png_frames(self) -> int:
        """The number of those files."""
        return len(list(Path(self.png).parent.iterdir()))

    @cached_property
    def engine(self) -> Backend:
        """What the peers call, one frame at a time."""
        return self.load(False)

    @cached_property
    def segmenter(self) -> Segmenter:
        """Ours, several frames at a time."""
        return Segmenter(self.load(True), self.clip.roi)

    @cached_property
    def mask_dice(self) -> float:
        """Mean Dice of the peers' masks and ours, in phantoms with a nerve: in a clip without one ours
        refuses the plain loop's false alarms. Raises EngineError if they find something else."""
        ours, plain = Segmenter(self.engine, withhold=False), PlainModel(self.engine, None)
        frames = [Frame(image, index, time.monotonic_ns()) for index, image in enumerate(probes())]
        dice = float(
            np.mean([Confusion.count(plain.mask(f.image), ours.segment(f).mask).dice for f in frames])
        )
        if dice < MIN_ROUGH_MASK_DICE:
            raise EngineError(f"it finds something else than ours: masks have Dice {dice:.3f}")
        return dice


def pipelines(task: Task) -> dict[str, Maker]:
    """What makes each pipeline ready, by its name; ours come first."""
    loops = {"OpenCV loop, drawn": None, "OpenCV loop, to MPEG-4": task.folder / "opencv.mp4"}
    videos = {"supervision, drawn": None, "supervision, to MPEG-4": task.folder / "supervision.mp4"}
    return {
        OURS_DRAWN: partial(_ours, task, OURS_DRAWN, None),
        OURS_WRITTEN: partial(_ours, task, OURS_WRITTEN, task.folder / "streamseg.mp4"),
        OURS_FIGURES: partial(_ours_with_figures, task),
        **{name: partial(_opencv, task, name, target) for name, target in loops.items()},
        **{name: partial(_supervision, task, name, target) for name, target in videos.items()},
        OURS_PNG: partial(_ours_from_png, task),
        FAST: partial(_fast, task),
    }


def frames_in(uri: str, limit: int) -> int:
    """The number of frames in a clip, counted by decoding it up to ``limit``. Raises SourceError for none."""
    found = 0
    with open_source(uri) as source:
        try:
            for _ in islice(source, limit):
                found += 1
        except SourceError:
            if not found:
                raise
    return found


class _Drawn:
    """Draws the outline into the frame, if it is to, and throws the result away."""

    name = "overlay"

    def __init__(self, *, draw: bool = True) -> None:
        self.frames = 0
        self._draw = draw

    def write(self, result: Result) -> None:
        if self._draw:
            compose_plain(result, full_frame=True)
        self.frames += 1

    def close(self) -> None:
        """Nothing to finish."""


def _ours(task: Task, name: str, target: Path | None) -> Peer:
    segmenter = task.segmenter

    def call() -> int:
        with open_source(task.clip.uri) as source:
            sink: _Drawn | VideoSink = _Drawn()
            if target is not None:
                sink = VideoSink(target, source.info, force=True, full_frame=True, hud=False)
            replay(source, segmenter, [sink], stop=threading.Event(), max_frames=task.frames)
        return sink.frames

    does = "draws the outline" if target is None else "draws the outline and encodes H.264"
    return _own_peer(task, name, call, f"judges each frame and {does}", target)


def _ours_with_figures(task: Task) -> Peer:
    segmenter = task.segmenter

    def call() -> int:
        return end_to_end(task.clip, segmenter, task.frames).processed

    return _own_peer(task, OURS_FIGURES, call, "judges each frame, and draws outline and figures")


def _ours_from_png(task: Task) -> Peer:
    """Beside FAST only."""
    command_of_fast()
    segmenter = Segmenter(task.exact(), None)

    def call() -> int:
        sink = _Drawn(draw=False)
        with open_source(Path(task.png).parent) as source:
            replay(source, segmenter, [sink], stop=threading.Event())
        return sink.frames

    settings = (
        f"reads PNG files of the region, infers {segmenter.lanes} at a time, judges each and finds the "
        "outline, side by side; draws nothing"
    )
    row = PeerRow(
        name=OURS_PNG,
        ours=True,
        against=OURS_PNG,
        version=version("streamseg"),
        settings=settings,
        precision="fp32",
        frames=task.png_frames,
    )
    return Peer(row, call)


def _fast(task: Task) -> Peer:
    """FAST's own reader of images, resizing, net and threshold."""
    command_of_fast()  # before anything is written
    engine = task.exact()
    fast = Fast(task.onnx(), engine.spec, task.folder)
    task.at_end(fast.close)
    row = PeerRow(
        name=FAST,
        ours=False,
        against=OURS_PNG,
        version=fast.version,
        settings="reads the same PNG files ahead, smooths and resizes by OpenCL, infers one at a time by its "
        "own OpenVINO on all cores; finds no outline and draws nothing",
        precision="fp32",
        frames=task.png_frames,
        mask_dice=five_digits(_fast_dice(fast, engine, task.folder)),
    )
    return Peer(row, partial(fast.run, task.png), processor_s=lambda: fast.processor_s)


def _fast_dice(fast: Fast, engine: Backend, folder: Path) -> float:
    """Mean Dice of FAST's masks and ours in phantoms that have the input's size already: each has a resizing
    of its own.

    Raises EngineError if it finds something else.
    """
    spec = engine.spec
    levels = [(to_tensor(image, spec)[0, 0] * spec.std + spec.mean) * 255 for image in probes()]
    images = [np.clip(np.round(level), 0, 255).astype(np.uint8) for level in levels]
    ours = [engine.infer(to_tensor(image, spec))[0] > spec.threshold for image in images]
    pairs = zip(fast.masks(images, folder / "probes"), ours, strict=True)
    dice = float(np.mean([Confusion.count(mask, own).dice for mask, own in pairs]))
    if dice < MIN_ROUGH_MASK_DICE:
        raise EngineError(f"it finds something else than ours: masks have Dice {dice:.3f}")
    return dice


def _own_peer(task: Task, name: str, call: Callable[[], int], does: str, target: Path | None = None) -> Peer:
    settings = f"decodes, infers {task.segmenter.lanes} frames at a time, {does}, side by side"
    row = PeerRow(name=name, ours=True, against=name, version=version("streamseg"), settings=settings)
    return _peer(task, row, call, target)


def _opencv(task: Task, name: str, target: Path | None) -> Peer:
    """A plain loop."""
    model = PlainModel(task.engine, task.clip.roi)
    call = partial(plain_loop, task.clip.uri, model, task.frames, target, task.clip.pace)
    does = "draws the outline" if target is None else "draws the outline and encodes MPEG-4 part 2"
    settings = f"decodes, infers and {does} one after the other"
    return _peer(task, PeerRow(name=name, version=version("opencv-python"), settings=settings), call, target)


def _supervision(task: Task, name: str, target: Path | None) -> Peer:
    """Its loop over frames, or with a ``target`` its processing of videos."""
    sv = need("the peer supervision", "supervision")
    annotate = _annotator(sv, PlainModel(task.engine, task.clip.roi))

    def draw() -> int:
        done = 0
        for frame in sv.get_video_frames_generator(task.clip.uri, end=task.frames, prefetch=8):
            annotate(frame, done)
            done += 1
        return done

    def write() -> int:
        sv.process_video(task.clip.uri, str(target), annotate, max_frames=task.frames)
        return task.frames  # what there really are is counted in the file

    ahead = "decodes ahead" if target is None else "decodes ahead, encodes MPEG-4 part 2 behind"
    settings = f"{ahead}; infers and draws the outline one after the other"
    row = PeerRow(name=name, version=version("supervision"), settings=settings)
    return _peer(task, row, draw if target is None else write, target)


def _peer(task: Task, row: PeerRow, call: Callable[[], int], target: Path | None) -> Peer:
    """Complete the row of a pipeline; ``target`` is the video that it writes."""
    engine = task.segmenter.backend if row.ours else task.engine
    if not row.ours:
        against = OURS_DRAWN if target is None else OURS_WRITTEN
        row = replace(row, ours=False, against=against, mask_dice=five_digits(task.mask_dice))
    row = replace(row, precision=EngineInfo.of(engine).precision or "fp32", frames=task.frames)
    return Peer(row, call, None if target is None else partial(frames_in, str(target), 10**9))


def _annotator(sv: Any, model: PlainModel) -> Callable[[Image, int], Image]:
    """A frame with its outline drawn, as supervision's own examples do it."""
    polygons = sv.PolygonAnnotator(thickness=THICKNESS)

    def annotate(frame: Image, _index: int) -> Image:
        masks = model.mask(frame)[None]
        if not masks.any():
            return frame
        found = sv.Detections(xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=np.zeros(1, int))
        drawn: Image = polygons.annotate(frame.copy(), found)
        return drawn

    return annotate


THICKNESS = 2
COLOUR = (80, 220, 255)
"""Of outlines, blue, green, red."""


class PlainModel:
    """Baseline: fit the region into the net's input, infer, fit the map back."""

    def __init__(self, engine: Backend, roi: Roi | None) -> None:
        self._engine, self._roi = engine, roi

    def mask(self, frame: Image) -> Mask:
        """Nerve, bool (H, W), in a frame (H, W[, 3])."""
        spec, roi = self._engine.spec, self._roi or Roi.whole(frame)
        region = roi.crop(frame)
        grey = region if region.ndim == 2 else cv2.cvtColor(region, cv2.COLOR_BGR2GRAY)
        scale = min(spec.height / roi.height, spec.width / roi.width)
        height, width = round(roi.height * scale), round(roi.width * scale)
        top, left = (spec.height - height) // 2, (spec.width - width) // 2
        tensor = np.zeros((1, 1, spec.height, spec.width), np.float32)
        tensor[0, 0, top : top + height, left : left + width] = cv2.resize(
            grey, (width, height), interpolation=cv2.INTER_AREA
        )
        tensor = (tensor / np.float32(255) - np.float32(spec.mean)) / np.float32(spec.std)
        found = self._engine.infer(tensor)[0, top : top + height, left : left + width]
        mask = np.zeros(frame.shape[:2], np.bool_)
        inside = cv2.resize(found, (roi.width, roi.height)) > spec.threshold
        mask[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width] = inside
        return mask


def plain_loop(uri: str, model: PlainModel, frames: int, target: Path | None, rate: float) -> int:
    """Baseline: a minimal OpenCV loop around the same engine.

    It decodes, infers and draws the outline, frame by frame, and writes it to ``target`` if that is given.

    The number of frames that came out, at most ``frames``. Raises SourceError, and SinkError.
    """
    done, writer = 0, None
    for frame in islice(_decoded(uri), frames):
        mask = model.mask(frame).view(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, outlines, -1, COLOUR, THICKNESS)
        if target is not None:
            writer = writer or _writer(target, frame, rate)
            writer.write(frame)
        done += 1
    if writer is not None:
        writer.release()
    return done


def _decoded(uri: str) -> Iterator[Image]:
    """A video's frames by OpenCV. Raises SourceError if it cannot read the video."""
    video = cv2.VideoCapture(uri)
    try:
        if not video.isOpened():
            raise SourceError("OpenCV cannot read this clip; give a video file")
        while True:
            found, frame = video.read()
            if not found:
                return
            yield np.asarray(frame, np.uint8)
    finally:
        video.release()


def _writer(path: Path, frame: Image, rate: float) -> cv2.VideoWriter:
    size = frame.shape[1], frame.shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise SinkError(f"OpenCV cannot write {path.name}")
    return writer
