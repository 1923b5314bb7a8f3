"""Measures how steady an engine's outlines are in video, how often they are false, and whether they lag.

    python -m benchmarks.flicker [ENGINE ...] [--clips DIR] [--seeds N] [--seconds S] [--out FILE.json]

Regime: each frame is inferred once; what follows runs twice on the same maps, frame by frame as replay does
(``frames``), and with the temporal filter as live runs do (``live``). Sources:

- ``clips``      real screens of a calf muscle, the image region found as replay does. There is no nerve in
  them: every outline is false. They last 1 to 2 s each, and the machine repeats frames.
- ``without``    phantoms without nerve: every outline is false
- ``resting``    phantoms whose probe stays at the nerve
- ``sliding``    phantoms whose probe moves away from the nerve, at up to nine pixels a frame, and back
- ``recorded``   the sliding ones as an overloaded live run segments them, of which ``replay --as-recorded``
  repeats the drops: after each frame none, one or two are left out, by chance

Columns, over all frames of a kind:

- ``outlined``     share of frames with an outline
- ``switches``     times a second that it comes or goes
- ``area``         how much its area changes between two frames that both have one, less the true change, as
  a share of its area: the median
- ``centroid``     how far its centroid moves, less the true movement, in percent of the image's width:
  the median and the 90th percentile
- ``dice``         against the truth, all frames (two empty masks: 1); ``found``  share of frames with an
  outline among those whose truth covers at least 0.2 % of the image
- ``error``        distance of its centroid from the true one while the nerve moves by at least 0.3 % of the
  width a frame, in percent of the width: the median
- ``lag``          by how many frames filtered outlines are behind those of each frame alone, in the same
  frames: the shift of the centroid against the motion, divided by the motion, the median; 0 is no lag

"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg.backends import load_backend
from streamseg.benchmark.provenance import ROOT, provenance
from streamseg.capture import open_source
from streamseg.capture.phantom import PhantomSource
from streamseg.capture.screen.find import find_region
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import Backend, Frame, Mask, Roi, Segmentation
from streamseg.evaluation.overlap import Confusion
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter

CLIPS = ROOT.parent / "shared/data/clips"
SEED = 70_700_000
"""First seed of the phantoms, which nothing else uses."""
SEEN = 0.002
"""Share of the image that a nerve covers at least to count as visible: less is the edge of one."""
MOVING = 0.3
"""Percent of the width by which a nerve moves in a frame at least to count as moving."""
MODES = ("frames", "live")
COLUMNS = ("outlined", "switches", "area", "centroid", "centroid_p90", "dice", "found", "error", "lag")


@dataclass(frozen=True)
class Clip:
    """A source's frames, the region of the image in them, and their true nerves if they are known."""

    kind: str
    frames: Sequence[Frame]
    roi: Roi | None
    truths: Sequence[Mask | None]

    @property
    def width(self) -> int:
        """Of the image, in pixels."""
        return self.frames[0].image.shape[1] if self.roi is None else self.roi.width


@dataclass(frozen=True)
class Shape:
    """What is compared of an outline: its area in pixels and its centroid (x, y); area 0 without one."""

    area: float
    centroid: np.ndarray

    @classmethod
    def of(cls, mask: Mask) -> Shape:
        moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
        area = moments["m00"]
        return cls(area, np.array([moments["m10"], moments["m01"]]) / max(area, 1))


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="names or paths; default: the default")
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--seeds", type=int, default=6, help="phantoms of each kind")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phantom; sliding ones twice that")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    backends = [load_backend(engine) for engine in options.engines or [None]]
    rows = measure(backends, sources(options.clips, options.seeds, options.seconds))
    result = {
        "what": "flicker, false outlines and lag in video",
        "date": time.strftime("%Y-%m-%d"),
        "engines": [EngineInfo.of(backend).identity() for backend in backends],
        "seeds": options.seeds,
        "seconds": options.seconds,
        "rows": rows,
        "provenance": provenance(),
    }
    print("\n".join(lines(rows)))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def sources(clips: Path, seeds: int, seconds: float) -> Iterator[Clip]:
    """All sources, one after another."""
    for path in sorted(clips.glob("*.mp4")):
        with open_source(path) as clip:
            frames = list(clip)
        region = find_region([frame.image for frame in frames[::10]])
        yield Clip("clips", frames, region, [None] * len(frames))
    for seed in range(SEED, SEED + seeds):
        yield phantom("without", seed, seconds, nerve=False)
        yield phantom("resting", seed, seconds, nerve=True)
        sliding = phantom("sliding", seed, 2 * seconds, nerve=None)
        yield sliding
        yield with_drops(sliding, seed)


def phantom(kind: str, seed: int, seconds: float, *, nerve: bool | None) -> Clip:
    """A phantom's video with its true nerves."""
    with PhantomSource(seed=seed, frames=round(30 * seconds), nerve=nerve) as source:
        frames = list(source)
        return Clip(kind, frames, None, [source.truth(frame.index) for frame in frames])


def with_drops(clip: Clip, seed: int) -> Clip:
    """The frames that an overloaded live run would segment: none, one or two are dropped after each."""
    steps = np.random.default_rng(seed).integers(1, 4, len(clip.frames))
    kept = [place for place in np.cumsum(steps) if place < len(clip.frames)]
    return Clip("recorded", [clip.frames[k] for k in kept], clip.roi, [clip.truths[k] for k in kept])


def measure(backends: Sequence[Backend], clips: Iterable[Clip]) -> list[dict[str, Any]]:
    """A row for each engine, kind of source and mode."""
    figures: dict[tuple[str, str, str], Figures] = {}
    for clip in clips:
        truths = [None if truth is None else Shape.of(truth) for truth in clip.truths]
        for backend in backends:
            masks = outlines(backend, clip)
            alone = [Shape.of(mask) for mask in masks[MODES[0]]]
            for mode in MODES:
                found = figures.setdefault((backend.name, clip.kind, mode), Figures())
                shapes = [Shape.of(mask) for mask in masks[mode]]
                found.add(clip, shapes, truths, alone)
                for mask, truth in zip(masks[mode], clip.truths, strict=True):
                    if truth is not None:
                        found.note("dice", Confusion.count(mask, truth).dice)
    return [
        {"engine": engine, "source": kind, "mode": mode, **one.to_json()}
        for (engine, kind, mode), one in figures.items()
    ]


def outlines(backend: Backend, clip: Clip) -> dict[str, list[Mask]]:
    """The nerve's masks in every frame by mode, cut to the region."""
    segmenters = {
        "frames": Segmenter(backend, clip.roi),
        "live": Segmenter(backend, clip.roi, steady=TemporalFilter()),
    }
    found: dict[str, list[Mask]] = {mode: [] for mode in MODES}
    for frame in clip.frames:
        timed = replace(frame, captured_ns=round((frame.pts_seconds or 0.0) * 1e9))
        prepared = segmenters["frames"].prepare(timed)
        planes = segmenters["frames"].infer(prepared)
        for mode, segmenter in segmenters.items():
            segmentation: Segmentation = segmenter.finish(prepared, planes)
            mask = segmentation.mask.view(np.uint8)
            found[mode].append(np.ascontiguousarray(prepared.roi.crop(mask)).view(np.bool_))
    return found


class Figures:
    """Collects the figures of a row, source by source."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.switches = 0

    def note(self, name: str, value: float) -> None:
        """Add a value to those of a name."""
        self.values.setdefault(name, []).append(float(value))

    def add(
        self, clip: Clip, shapes: Sequence[Shape], truths: Sequence[Shape | None], alone: Sequence[Shape]
    ) -> None:
        """Add one source: its outlines, its true nerves, and the outlines of each frame alone."""
        first, last = clip.frames[0].pts_seconds or 0.0, clip.frames[-1].pts_seconds or 0.0
        self.seconds += last - first
        size = clip.truths[0].size if clip.truths[0] is not None else 0
        for k, (now, truth) in enumerate(zip(shapes, truths, strict=True)):
            visible = truth is not None and truth.area >= SEEN * size
            self.note("outlined", now.area > 0)
            if visible:
                self.note("found", now.area > 0)
            if k == 0:
                continue
            before, true_before = shapes[k - 1], truths[k - 1]
            self.switches += (now.area > 0) != (before.area > 0)
            moved = np.zeros(2)
            grown = 0.0
            if visible and truth is not None and true_before is not None and true_before.area > 0:
                moved = truth.centroid - true_before.centroid
                grown = np.log(truth.area / true_before.area)
            elif truth is not None and truth.area > 0:
                continue  # a nerve that enters or leaves has no movement of its own
            if now.area > 0 and before.area > 0:
                self.note("area", abs(np.log(now.area / before.area) - grown))
                self.note("jump", self.percent(now.centroid - before.centroid - moved, clip))
            if now.area > 0 and truth is not None and self.percent(moved, clip) >= MOVING:
                self.note("error", self.percent(now.centroid - truth.centroid, clip))
                if alone[k].area > 0:
                    shift = now.centroid - alone[k].centroid
                    self.note("lag", -float(shift @ moved) / float(moved @ moved))

    @staticmethod
    def percent(vector: np.ndarray, clip: Clip) -> float:
        """A distance in percent of the image's width."""
        return 100 * float(np.hypot(*vector)) / clip.width

    def to_json(self) -> dict[str, float | None]:
        """The columns; None for those that the source does not have."""
        values = {name: np.array(found) for name, found in self.values.items()}
        jumps = values.get("jump")
        figures: dict[str, float | None] = dict.fromkeys(COLUMNS)
        for name in ("outlined", "dice", "found"):
            if name in values:
                figures[name] = float(values[name].mean())
        for name in ("area", "error", "lag"):
            if name in values:
                figures[name] = float(np.median(values[name]))
        if jumps is not None:
            figures["centroid"] = float(np.median(jumps))
            figures["centroid_p90"] = float(np.percentile(jumps, 90))
        figures["switches"] = self.switches / self.seconds
        rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
        return {"frames": len(values["outlined"]), **rounded}


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table for people."""
    names = ("engine", "source", "mode", *COLUMNS)
    text = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [row[name] for name in names[:3]]
        cells += ["" if row[name] is None else f"{row[name]:.3f}" for name in COLUMNS]
        text.append("| " + " | ".join(cells) + " |")
    return text


if __name__ == "__main__":
    main()
