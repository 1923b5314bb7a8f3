"""Measures what labelled frames of a new scanner teach: chosen by select or by chance, from several starts.

    python -m benchmarks.adapt ../shared/data/kaggle-positives --out /tmp/adapt
    python -m benchmarks.adapt DATA --out RUNS --frames 10 --epochs 1 --test-each 2 --phantoms 8    a trial

DATA, with subjects, plays the new scanner. Its last subjects test; the first ones, 2 to 12, are recorded and
labelled. Every run fine-tunes on one choice of frames for the same number of steps, with phantoms mixed
in as ``streamseg adapt`` does, and is measured on all test frames at threshold 0.5, without output
calibration: Dice with its 95 % interval over subjects, and the minutes of training. Runs are kept in --out,
and those that are there already are not repeated. Weights stay on this machine; the result holds no picture.

Starts are ``default`` (the shipped weights), ``nothing`` (random weights of the same net), or a checkpoint.
``--elsewhere DATA`` measures what is forgotten: the Dice on another data set.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

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
from streamseg.training.initial_weights import trainable
from streamseg.training.run_folder import TrainingCallbacks
from streamseg.training.trainer import fit

SUBJECTS = {10: 2, 20: 4, 50: 6, 100: 10, 200: 12}
"""Subjects that are recorded, by labelled frames; other numbers have those of the next larger one."""
TEST_SUBJECTS = 8
CANDIDATES_EACH = 60
"""Of a subject."""
STRATEGIES = ("mixed", "random")
RESULT = "result.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=sorted(SUBJECTS))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--starts", nargs="+", default=["default", "nothing"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=25, help="of 100 frames; fewer frames have more")
    parser.add_argument("--test-each", type=int, default=25, help="test frames of each subject")
    parser.add_argument("--phantoms", type=int, default=200, help="phantoms that are mixed in")
    parser.add_argument("--elsewhere", type=Path)
    options = parser.parse_args()
    data = open_dataset(options.data)
    names = list(dict.fromkeys(entry.subject for entry in data.entries))
    test = _spread(data, names[-TEST_SUBJECTS:], options.test_each)
    elsewhere = open_dataset(options.elsewhere) if options.elsewhere else None
    result = _Result(options.out / RESULT, options.data.resolve().name, len(test), options.epochs)
    base = resolve(read_manifest(SHIPPED / DEFAULT)[0].net)
    pool: list[Candidate] = []
    for frames in options.frames:
        people = next(count for most, count in sorted(SUBJECTS.items()) if frames <= most or most == 200)
        recorded = _spread(data, names[:people], CANDIDATES_EACH)
        for seed in options.seeds:
            for strategy in options.strategies:
                for start in options.starts:
                    key = f"{start}, {strategy}, {frames} frames, seed {seed}"
                    if key in result.rows:
                        continue
                    pool = _candidates(recorded, pool)
                    chosen = choose(pool, frames, strategy=strategy, seed=seed)
                    rows = [one.candidate.frame for one in chosen]
                    trained, minutes = _train(
                        recorded.part(rows),
                        base,
                        start,
                        options.out / key.replace(", ", "-"),
                        epochs=options.epochs,
                        phantoms=options.phantoms,
                        seed=seed,
                    )
                    row = {
                        "start": start,
                        "strategy": strategy,
                        "frames": len(rows),
                        "subjects": people,
                        "seed": seed,
                        **_dice(trained, test),
                        "elsewhere": elsewhere and _dice(trained, elsewhere)["dice"],
                        "minutes": round(minutes, 2),
                    }
                    result.add(key, row)
    if "before" not in result.rows:
        found = _dice(_plain(base, base, options.out / "before.safetensors"), test)
        result.add("before", {"start": "default", "strategy": "-", "frames": 0, **found})


class _Result:
    """The rows that were measured, in a file that is written after each."""

    def __init__(self, path: Path, data: str, test: int, epochs: int) -> None:
        self._path = path
        self._head = {"data": data, "test_frames": test, "epochs": epochs, "machine": machine_name()}
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            stored = json.loads(path.read_text())
            if stored["epochs"] != epochs or stored["test_frames"] != test:
                raise SystemExit(f"{path} holds runs of other options; choose another --out")
            self.rows = stored["rows"]

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.rows[key] = row
        write_json(self._path, {**self._head, "rows": self.rows})
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
    chosen: Dataset, base: Checkpoint, start: str, folder: Path, *, epochs: int, phantoms: int, seed: int
) -> tuple[Path, float]:
    """Fine-tune on all chosen frames; the folded weights, and the minutes of the training."""
    if start not in ("default", "nothing"):
        base = resolve(start)
    config = training_config(base, seed=seed)
    # As many steps whatever the number of frames: what differs is what they teach.
    config = replace(config, epochs=max(1, round(epochs * 100 / max(len(chosen), config.batch))))
    cache = cache_samples(list(chosen), config.spec)
    drawn = phantom_samples(phantoms, seed=seeds.training(seed).take(phantoms))
    rows = tuple(range(len(chosen)))
    data = TrainingData(cache, Fold(rows, rows[:1]), cache_samples(drawn, config.spec))
    weights = None if start == "nothing" else trainable(base, config, data)
    began = time.monotonic()
    fit(config, data, folder, start=weights, fabric=make_fabric(), callbacks=TrainingCallbacks())
    minutes = (time.monotonic() - began) / 60
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
