"""Measures what the model card says of an engine's accuracy, in one JSON file.

    python -m benchmarks.accuracy [ENGINE] [--data DIR] [--only PART ...] [--each N] [--out DIR] [--quick]

DIR (by default ``../shared/data``) has the folders below; what it lacks is left out of the result.

``own``       usgra-seg: the images of its own machine that the weights' split holds back. If there are none,
              the figures are those of the engine's manifest, which the weights of other runs measured
``other``     kaggle-positives: another machine, nerves only; no shipped weights are trained on it
``muscle``    real frames without nerve, stills of another machine
``phantoms``  the synthetic images of ``streamseg evaluate phantom:400``
``video``     clips of a calf, which have no nerve, and phantom videos, by :mod:`benchmarks.flicker`: each
              frame by itself, as ``replay`` outlines it (``frames``), and as ``live`` does
``cost``      time per frame as a ratio to the improved U-Net's INT8 engine, called in turn. Measure it on a
              quiet machine: ``--only cost`` adds it to the newest result of the engine

Parts that are not measured stay as the newest result of the same engine has them. Images of one person are
alike: ``--each`` takes at most N images of each, spread evenly, where the people are known.

Of images, outlines count that a display would withhold, because the image is called unlike the training data
(``unlike_cost`` is what withholding costs); of video they do not. ``python -m benchmarks.readme`` writes the
model card's tables and the README's from the newest ``<date>-<machine>-accuracy-<engine>.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks import flicker
from benchmarks.common import RESULTS
from streamseg.backends import load_backend
from streamseg.backends.loading import locate, shipped_engine
from streamseg.benchmark.provenance import ROOT, OtherLoad, machine_name, provenance
from streamseg.benchmark.rows.run import BUSY, Record, decode
from streamseg.cli.evaluate import training_split
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import DataError, StreamsegError
from streamseg.core.files import parse_json, read_file, write_whole
from streamseg.core.spec import NERVE
from streamseg.core.types import Backend, Frame
from streamseg.datasets import Dataset, Sample, frame_hash, open_dataset
from streamseg.datasets.phantoms import open_or_render
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.evaluation.calibration_error import GOOD_DICE
from streamseg.evaluation.dataset import Evaluation
from streamseg.export.gate import compare_speed
from streamseg.phantom import render_still
from streamseg.phantom.seeds import BENCHMARK
from streamseg.segmentation.segmenter import Segmenter

PARTS = ("own", "other", "muscle", "phantoms", "video", "cost")
FOLDERS = {"own": "usgra-seg", "other": "kaggle-positives", "muscle": "muscle"}
STATED = {"own": ("usgra-seg", "validation"), "phantoms": ("phantom:400", "phantom")}
"""Parts that an engine's manifest states, with the key there."""
CLIPS = "clips"
PHANTOMS = 400
VIDEOS, VIDEO_SECONDS = 3, 5.0
"""Phantom videos of each kind, and their length; sliding ones are twice as long."""
REFERENCE = "improved_unet"
"""The net whose INT8 engine times are compared with."""
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureAccuracy(Record):
    """Figures of one structure over the labelled images of a part."""

    images: int = 0
    """With labels of it, also of its absence."""
    dice_mean: float | None = None
    dice_interval: Interval | None = None
    """95 %, over subjects if they are known, else over images."""
    dice_median: float | None = None
    iou_mean: float | None = None
    sensitivity: float | None = None
    """Share of the images with it that have an outline."""
    sensitivity_interval: Interval | None = None
    specificity: float | None = None
    """Share of the images without it that have none."""
    specificity_interval: Interval | None = None
    misplaced: int | None = None
    """Images in which outline and label share no pixel."""
    bad: float | None = None
    """Share of the images with it in which the Dice is below 0.5."""
    smallest_third: float | None = None
    """Mean Dice of the third of the images in which its label is smallest."""
    hd95_median_px: float | None = None
    area_bias_percent: float | None = None
    confidence_ece: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAccuracy(Record):
    """Figures of one kind of images."""

    data: str = ""
    images: int = 0
    subjects: int | None = None
    """People in the images; None if they are not known."""
    trained_on: int | None = None
    """Number of the images that the weights were trained on; None if it is not known."""
    from_manifest: bool = False
    """Measured when the engine was made, and stated in its manifest."""
    structures: dict[str, StructureAccuracy] = field(default_factory=dict)
    unlike: int | None = None
    """Images called unlike the training data."""
    unlike_cost: float | None = None
    """By how much withholding their outlines lowers the mean Dice of nerves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoAccuracy(Record):
    """Figures of one way of outlining the nerve in one kind of video, by :mod:`benchmarks.flicker`."""

    frames: int = 0
    outlined: float | None = None
    """Share of frames with an outline."""
    switches_per_s: float | None = None
    """How often a second it appears or disappears."""
    dice_mean: float | None = None
    """Against the truth, where it is known."""
    found: float | None = None
    """Share of frames with an outline among those with a nerve."""
    lag_frames: float | None = None
    """By how many frames outlines are behind the nerve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Record):
    """Time per frame of the engine alone."""

    against: str = ""
    """Engine that the ratio is to."""
    ratio: float | None = None
    ratio_interval: Interval | None = None
    ms: float | None = None
    """Median of a call; None if other processes took more than a tenth of the processor."""
    others_share: float | None = None
    """Share of the processor time, 0..1, that other processes took meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAccuracy(Record):
    """All that was measured of an engine."""

    what: str = "accuracy"
    date: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    net: str = ""
    input: str = ""
    """``256x256``."""
    structures: list[str] = field(default_factory=list)
    parts: dict[str, PartAccuracy] = field(default_factory=dict)
    """By kind of images: ``own``, ``other``, ``muscle``, ``phantoms``."""
    video: dict[str, VideoAccuracy] = field(default_factory=dict)
    """By kind of video and way of outlining: ``clips frames``, ``sliding live`` and so on."""
    cost: Cost = field(default_factory=Cost.unknown)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", nargs="?", help="default: the default engine")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--each", type=int, metavar="N", help="at most N images of each person")
    parser.add_argument(
        "--stated",
        action="store_true",
        help="take 'own' and 'phantoms' from the engine's manifest, which measured them when it was made",
    )
    parser.add_argument("--quick", action="store_true", help="few images of each, to see that it works")
    options = parser.parse_args(arguments)
    try:
        path = measure(options)
    except StreamsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


def measure(options: argparse.Namespace) -> Path:
    """Measure an engine, and write its file after each part; parts that are not measured come from its newest
    one. Raises StreamsegError.
    """
    backend = load_backend(options.engine)
    try:
        found = EngineAccuracy(
            engine=EngineInfo.of(backend).identity(),
            net=net_of(options.engine or backend.name),
            input=f"{backend.spec.height}x{backend.spec.width}",
            structures=list(backend.spec.structures),
            **{key: value for key, value in provenance().items() if key in ("date", "machine")},
        )
        _, earlier = newest(options.out).get(found.engine["name"], (None, None))
        if earlier is not None and earlier.engine == found.engine:
            found = replace(found, parts=earlier.parts, video=earlier.video, cost=earlier.cost)
        path = options.out / f"{found.date}-{machine_name()}-accuracy-{found.engine['name']}.json"
        for name in (one for one in PARTS if one in options.only):
            print(f"measuring {name}", file=sys.stderr)
            if name == "video":
                found = replace(found, video=measure_video(backend, options))
            elif name == "cost":
                found = replace(found, cost=measure_cost(backend))
            elif (part := measure_part(name, backend, options)) is not None:
                parts = {**found.parts, name: part}
                found = replace(found, parts={one: parts[one] for one in PARTS if one in parts})
            write(path, found)
    finally:
        backend.close()
    if not path.exists():
        raise DataError(
            f"{options.data} has none of {', '.join([*FOLDERS.values(), CLIPS])}; give --data DIR"
        )
    return path


def write(path: Path, found: EngineAccuracy) -> None:
    """Write what has been measured so far, if anything. Raises SinkError."""
    if found.parts or found.video or found.cost != Cost.unknown():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(found.to_json(), allow_nan=False, indent=1) + "\n").encode())


def newest(results: Path) -> dict[str, tuple[Path, EngineAccuracy]]:
    """The newest result of each engine, by its name, with its file. Raises DataError for a damaged one."""
    found = {}
    for path in sorted(results.glob("*-accuracy-*.json")):  # by date
        try:
            values = parse_json(read_file(path))
            one = decode(EngineAccuracy, values)
            if one.what != "accuracy" or not one.engine.get("name"):
                raise ValueError("it names no engine")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is no result of benchmarks.accuracy ({error})") from error
        found[str(one.engine["name"])] = path, one
    return found


def net_of(engine: str) -> str:
    """The net of an engine or of weights."""
    path = locate(engine)
    return read_manifest(path)[0].net if path.is_dir() else read_checkpoint(path).net


def measure_part(name: str, backend: Backend, options: argparse.Namespace) -> PartAccuracy | None:
    """Measure one kind of images; None if its folder is not there, or it has no images to measure on."""
    if options.stated and name in STATED:
        return of_manifest(options.engine or backend.name, name)
    if name == "phantoms":
        samples = open_or_render(f"phantom:{20 if options.quick else PHANTOMS}")
        return of_images(samples, backend, f"phantom:{len(samples)}", trained_on=0)
    folder = options.data / FOLDERS[name]
    if not folder.is_dir():
        print(f"{folder} is not here: not measured", file=sys.stderr)
        return None
    data = open_dataset(folder)
    trained_on: int | None = 0 if name == "other" else None
    if name == "own":
        split = training_split(options.engine)
        seen = None if split is None else [frame_hash(sample.image) in split.train for sample in data]
        if seen is not None and all(seen):
            return of_manifest(options.engine or backend.name, name)
        if seen is not None:
            data = data.part(row for row, one in enumerate(seen) if not one)
            trained_on = 0
    samples: Iterable[Sample] = thinned(data, options)
    if name == "muscle":  # the data set has no table of subjects, its names begin with them
        samples = (replace(sample, subject=sample.name.partition("_")[0]) for sample in samples)
    return of_images(samples, backend, folder.name, trained_on=trained_on)


def thinned(data: Dataset, options: argparse.Namespace) -> Dataset:
    """The images; at most ``--each`` of a person, for a quick run about 20 in all, that are spread evenly."""
    if options.each is not None:
        rows: dict[str, list[int]] = {}
        for row, entry in enumerate(data.entries):
            rows.setdefault(entry.subject or f"image {row}", []).append(row)
        data = data.part(sorted(row for own in rows.values() for row in spread(own, options.each)))
    return data.part(spread(range(len(data)), 20)) if options.quick else data


def spread(rows: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the rows, evenly spread."""
    return [rows[round(place)] for place in np.linspace(0, len(rows) - 1, min(count, len(rows)))]


def of_images(
    samples: Iterable[Sample], backend: Backend, data: str, *, trained_on: int | None
) -> PartAccuracy:
    """The figures of labelled images, as ``streamseg evaluate`` computes them."""
    evaluation = Evaluation(Segmenter(backend, None, withhold=False))
    for sample in samples:
        evaluation.add(sample)
    found = evaluation.to_json()
    unlike = found["structures"][NERVE]["unlike"]
    return PartAccuracy(
        data=data,
        images=found["images"],
        subjects=found["subjects"],
        trained_on=trained_on,
        structures={
            name: structure_accuracy(figures, evaluation, name)
            for name, figures in found["structures"].items()
        },
        unlike=unlike["images"],
        unlike_cost=rounded(unlike["cost"]),
    )


def structure_accuracy(figures: dict[str, Any], evaluation: Evaluation, name: str) -> StructureAccuracy:
    """What the model card needs of one structure's figures."""
    present = [
        count for image in evaluation.labelled(name) if (count := image.structures[name].count).present
    ]
    sizes, area = figures["by_size"], figures["area_percent"]
    intervals = figures["intervals"]
    return StructureAccuracy(
        images=figures["images"],
        misplaced=figures["detection"]["misplaced"],
        bad=rounded(fmean(count.dice < GOOD_DICE for count in present)) if present else None,
        smallest_third=rounded(sizes[0]["dice_mean"]) if sizes else None,
        area_bias_percent=rounded(area and area["bias"]),
        confidence_ece=rounded(figures["confidence"]["ece"]),
        dice_interval=ends(figures["dice_interval"]),
        sensitivity_interval=ends(intervals["sensitivity"]),
        specificity_interval=ends(intervals["specificity"]),
        **{
            key: rounded(figures[key])
            for key in (
                "dice_mean",
                "dice_median",
                "iou_mean",
                "sensitivity",
                "specificity",
                "hd95_median_px",
            )
        },
    )


def of_manifest(engine: str, name: str) -> PartAccuracy | None:
    """What an engine's manifest states of a part; None if it states nothing. Of images that trained it, the
    weights of other runs measured what it states."""
    path, (data, key) = locate(engine), STATED[name]
    stated = read_manifest(path)[0].accuracy.get("int8", {}) if path.is_dir() else {}
    if key not in stated:
        print(f"{engine} states no figures on {data}", file=sys.stderr)
        return None
    by_name = {NERVE: stated[key]} | {
        name: one[key] for name, one in stated.get("structures", {}).items() if key in one
    }
    structures = {
        name: StructureAccuracy(
            images=one["images"],
            dice_interval=ends(one.get("dice_interval")),
            confidence_ece=one.get("confidence_ece"),
            **{
                key: one.get(key)
                for key in ("dice_mean", "dice_median", "iou_mean", "sensitivity", "specificity")
            },
        )
        for name, one in by_name.items()
    }
    images = structures[NERVE].images
    return PartAccuracy(data=data, images=images, trained_on=0, from_manifest=True, structures=structures)


def measure_video(backend: Backend, options: argparse.Namespace) -> dict[str, VideoAccuracy]:
    """The figures of :mod:`benchmarks.flicker`, by source and mode; none without clips."""
    clips = options.data / CLIPS
    if not clips.is_dir():
        print(f"{clips} is not here: no video is measured", file=sys.stderr)
        return {}
    seeds, seconds = (1, 1.0) if options.quick else (VIDEOS, VIDEO_SECONDS)
    rows = flicker.measure([backend], flicker.sources(clips, seeds, seconds))
    return {
        f"{row['source']} {row['mode']}": VideoAccuracy(
            frames=row["frames"],
            outlined=row["outlined"],
            switches_per_s=row["switches"],
            dice_mean=row["dice"],
            found=row["found"],
            lag_frames=row["lag"],
        )
        for row in rows
    }


def measure_cost(backend: Backend) -> Cost:
    """The engine's time for a frame, and its ratio to that of the reference."""
    reference = load_backend(shipped_engine(REFERENCE))
    same = EngineInfo.of(reference).identity() == EngineInfo.of(backend).identity()
    try:
        with OtherLoad() as others:
            ms = median_ms(backend)
            ratio, *interval = (1.0,) if same else compare_speed(backend, reference)
    finally:
        reference.close()
    return Cost(
        against=reference.name,
        ratio=rounded(ratio),
        ratio_interval=ends(interval or None),
        ms=rounded(ms) if (others.share or 0.0) <= BUSY else None,
        others_share=rounded(others.share),
    )


def median_ms(backend: Backend, calls: int = 100) -> float:
    """Milliseconds of a call of the engine alone."""
    segmenter = Segmenter.for_live(backend)
    prepared = segmenter.prepare(Frame(render_still(BENCHMARK.first).image, 0, 0))
    taken = []
    for _ in range(calls):
        began = time.monotonic_ns()
        backend.infer(prepared.tensor)
        taken.append((time.monotonic_ns() - began) / 1e6)
    return median(taken)


def rounded(value: float | None) -> float | None:
    """To four digits after the point."""
    return None if value is None else round(float(value), 4)


def ends(interval: Sequence[float] | None) -> Interval | None:
    """The ends of an interval, rounded."""
    return None if interval is None else (round(float(interval[0]), 4), round(float(interval[1]), 4))


if __name__ == "__main__":
    sys.exit(main())
