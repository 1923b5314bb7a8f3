"""Measures what labelled frames of a new scanner teach: chosen by select or by chance, from several starts.

    python -m benchmarks.adapt ../shared/data/kaggle-positives --out /tmp/adapt
    python -m benchmarks.adapt DATA --out RUNS --frames 10 --epochs 1 --test-each 2 --phantoms 8    a trial

DATA, with subjects, plays the new scanner. Its last subjects test; the first ones, 2 to 12, are recorded and
labelled. Every point fine-tunes on one choice of frames for the same number of steps, with phantoms mixed
in as ``streamseg adapt`` does, and is measured on all test frames at threshold 0.5, without output
calibration: Dice with its 95 % interval over subjects, and the minutes of training.

Each point is written to --out/result.json, and to --publish, as soon as it is measured; points that are there
are not repeated, and one that was interrupted goes on after its last epoch. --budget ends the call in time;
the same call goes on, and the exit code is 3 while points are missing. Weights stay in --out, which must be
outside this repository; the result holds no picture.

Starts are ``default`` (the shipped weights), ``imagenet`` (lite_unet's encoder), ``nothing`` (random weights
of the same net), or a checkpoint. The first has points at all --frames, the others at those of --others-at.
``--elsewhere DATA`` measures what is forgotten: the Dice on another data set.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, NoReturn

import numpy as np

from streamseg.adaptation.round import training_config
from streamseg.annotation.candidates import Candidate, outlines, score
from streamseg.annotation.choose import choose
from streamseg.backends import load_backend
from streamseg.backends.loading import DEFAULT
from streamseg.backends.loading import WEIGHTS as SHIPPED
from streamseg.benchmark.provenance import machine_name
from streamseg.core.files import write_json
from streamseg.datasets import Dataset, Fold, open_dataset
from streamseg.datasets.near_duplicates import detail_prints
from streamseg.datasets.phantoms import phantom_samples
from streamseg.engines.checkpoint import Checkpoint, write_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.evaluation.dataset import confusions
from streamseg.evaluation.intervals import bootstrap_interval
from streamseg.export.source import resolve
from streamseg.phantom import seeds
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.cache import cache_samples
from streamseg.training.data import TrainingData
from streamseg.training.devices import make_fabric
from streamseg.training.initial_weights import imagenet_weights, trainable
from streamseg.training.run_folder import TrainingCallbacks
from streamseg.training.trainer import fit

SUBJECTS = {10: 2, 20: 4, 50: 6, 100: 10, 200: 12}
"""Subjects that are recorded, by labelled frames; other numbers have those of the next larger one."""
TEST_SUBJECTS = 8
CANDIDATES_EACH = 60
"""Of a subject."""
STRATEGIES = ("mixed", "random")
RESULT = "result.json"
MISSING = 3
"""Exit code while points are missing."""
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=sorted(SUBJECTS))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--starts", nargs="+", default=["default", "imagenet", "nothing"])
    parser.add_argument("--others-at", type=int, nargs="+", default=[100], metavar="FRAMES")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=25, help="of 100 frames; fewer frames have more")
    parser.add_argument("--test-each", type=int, default=25, help="test frames of each subject")
    parser.add_argument("--phantoms", type=int, default=200, help="phantoms that are mixed in")
    parser.add_argument("--elsewhere", type=Path)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES", help="of this call")
    parser.add_argument("--publish", type=Path, metavar="FILE.json", help="copy of the result")
    options = parser.parse_args()
    if ROOT in options.out.resolve().parents:
        raise SystemExit(
            f"--out {options.out} is inside the repository, where no weights of others' data belong"
        )
    deadline = time.monotonic() + 60 * options.budget
    data = open_dataset(options.data)
    names = list(dict.fromkeys(entry.subject for entry in data.entries))
    test = _spread(data, names[-TEST_SUBJECTS:], options.test_each)
    elsewhere = open_dataset(options.elsewhere) if options.elsewhere else None
    base = resolve(read_manifest(SHIPPED / DEFAULT)[0].net)
    head = {
        "data": options.data.resolve().name,
        "net": base.net,
        "weights": base.sha256,
        "test_frames": len(test),
        "epochs": options.epochs,
        "phantoms": options.phantoms,
    }
    result = _Result([options.out / RESULT, *([options.publish] if options.publish else [])], head)
    if "before" not in result.rows:
        before = _plain(base, base, options.out / "before.safetensors")
        there = elsewhere and _dice(before, elsewhere)["dice"]
        result.add(
            "before",
            {"start": "default", "strategy": "-", "frames": 0, **_dice(before, test), "elsewhere": there},
        )
    pool: list[Candidate] = []
    for point in _points(options):
        if point.key in result.rows:
            continue
        if time.monotonic() > deadline:
            _stop(result)
        recorded = _spread(data, names[: point.people], CANDIDATES_EACH)
        pool = _candidates(recorded, pool)
        chosen = choose(pool, point.frames, strategy=point.strategy, seed=point.seed)
        rows = [one.candidate.frame for one in chosen]
        folder = options.out / point.key.replace(", ", "-")
        trained = _train(recorded.part(rows), base, point, folder, options, deadline=deadline)
        if trained is None:
            _stop(result)
        weights, minutes = trained
        result.add(
            point.key,
            {
                "start": point.start,
                "strategy": point.strategy,
                "frames": len(rows),
                "subjects": point.people,
                "seed": point.seed,
                **_dice(weights, test),
                "elsewhere": elsewhere and _dice(weights, elsewhere)["dice"],
                "minutes": round(minutes, 2),
            },
        )
        (folder / "last.pt").unlink(missing_ok=True)  # four times the weights; the point is finished


def _stop(result: _Result) -> NoReturn:
    print(f"the budget is over after {len(result.rows)} results; the same call goes on", flush=True)
    raise SystemExit(MISSING)


@dataclass(frozen=True)
class _Point:
    """One run of the curve."""

    start: str
    strategy: str
    frames: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.start}, {self.strategy}, {self.frames} frames, seed {self.seed}"

    @property
    def people(self) -> int:
        """Subjects that are recorded."""
        wanted = (count for most, count in sorted(SUBJECTS.items()) if self.frames <= most)
        return next(wanted, SUBJECTS[max(SUBJECTS)])


def _points(options: argparse.Namespace) -> list[_Point]:
    """All points: those of one seed first, and of these the ones of the first start."""
    first, *others = options.starts
    wanted = [(first, frames) for frames in options.frames]
    wanted += [
        (start, frames) for start in others for frames in options.others_at if frames in options.frames
    ]
    return [
        _Point(start, strategy, frames, seed)
        for seed in options.seeds
        for start, frames in wanted
        for strategy in options.strategies
    ]


class _Result:
    """The rows that were measured, in files that are written after each."""

    def __init__(self, paths: Sequence[Path], head: dict[str, Any]) -> None:
        """Read the rows of the first file. Ends with SystemExit if they are of other options."""
        path, self._paths = paths[0], paths
        self._head = {**head, "machine": machine_name()}
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            stored = json.loads(path.read_text())
            if any(stored.get(key) != value for key, value in head.items()):
                raise SystemExit(f"{path} holds runs of other options; choose another --out")
            self.rows = stored["rows"]

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.rows[key] = row
        for path in self._paths:
            write_json(path, {**self._head, "rows": self.rows})
        low, high = row["interval"]
        print(
            f"{key}: Dice {row['dice']:.3f} ({low:.3f} to {high:.3f}), {row.get('minutes', 0):.1f} min",
            flush=True,
        )


def _spread(data: Dataset, subjects: Sequence[str | None], each: int) -> Dataset:
    """At most ``each`` images of each subject, evenly chosen."""
    rows: list[int] = []
    for name in subjects:
        own = [row for row, entry in enumerate(data.entries) if entry.subject == name]
        rows += [
            own[place] for place in np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).astype(int))
        ]
    return data.part(rows)


def _candidates(recorded: Dataset, known: list[Candidate]) -> list[Candidate]:
    """The images as candidates, each numbered by its row; those of the same set are scored once."""
    if len(known) == len(recorded):
        return known
    backend = load_backend(DEFAULT)
    segmenter = Segmenter(backend, withhold=False)
    found = []
    for row, sample in enumerate(recorded):
        seen, scores = score(sample.image, None, segmenter)
        found.append(
            Candidate(
                recording=str(sample.subject),
                frame=row,
                seconds=None,
                subject=str(sample.subject),
                image=Path(sample.name),
                height=sample.image.shape[0],
                width=sample.image.shape[1],
                scores=scores,
                state=seen.state,
                print=detail_prints([sample.image])[0],
                masks=outlines(seen),
            )
        )
    backend.close()
    return found


def _train(
    chosen: Dataset,
    base: Checkpoint,
    point: _Point,
    folder: Path,
    options: argparse.Namespace,
    *,
    deadline: float,
) -> tuple[Path, float] | None:
    """Fine-tune on all chosen frames, or go on; the folded weights, and the minutes of all calls.

    None if the time was over first.
    """
    if point.start not in ("default", "imagenet", "nothing"):
        base = resolve(point.start)
    config = training_config(base, seed=point.seed)
    # As many steps whatever the number of frames: what differs is what they teach.
    config = replace(config, epochs=max(1, round(options.epochs * 100 / max(len(chosen), config.batch))))
    cache = cache_samples(list(chosen), config.spec)
    drawn = phantom_samples(options.phantoms, seed=seeds.training(point.seed).take(options.phantoms))
    rows = tuple(range(len(chosen)))
    data = TrainingData(cache, Fold(rows, rows[:1]), cache_samples(drawn, config.spec))
    if point.start == "nothing":
        weights = None
    elif point.start == "imagenet":
        weights = imagenet_weights(config.net, config.spec)
    else:
        weights = trainable(base, config, data)
    callbacks = TrainingCallbacks(should_stop=lambda: time.monotonic() > deadline)
    outcome = fit(config, data, folder, start=weights, fabric=make_fabric(), callbacks=callbacks)
    if not outcome.finished:
        return None
    minutes = sum(epoch["seconds"] for epoch in outcome.history.epochs) / 60
    return _plain(resolve(str(folder)), base, folder / "folded.safetensors"), minutes


def _plain(trained: Checkpoint, base: Checkpoint, path: Path) -> Path:
    """Folded weights without output calibration, which would decide with what other images taught."""
    spec = replace(trained.spec.calibrated({}), min_area=base.spec.min_area)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, trained.weights, net=trained.net, folded=True, trained=True, spec=spec)
    return path


def _dice(weights: Path, samples: Dataset) -> dict[str, Any]:
    backend = load_backend(weights)
    values = [count.dice for _, count in confusions(samples, Segmenter(backend, withhold=False))]
    backend.close()
    subjects = [entry.subject for entry in samples.entries]
    interval = bootstrap_interval(values, subjects=None if None in subjects else subjects)
    return {"dice": fmean(values), "median": median(values), "interval": list(interval)}


if __name__ == "__main__":
    main()
