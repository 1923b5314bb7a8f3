"""Makes the weights and the engine that ship with the package, from finished training runs.

    python -m streamseg.export.defaults --data DATA RUN [RUN ...]
    python -m streamseg.export.defaults --data DATA RUN [RUN ...] --judge JUDGE [JUDGE ...]
    python -m streamseg.export.defaults --data DATA --net NET       only the engine, from the shipped weights

averages and folds the runs, fits the output calibration (:mod:`streamseg.training.output_calibration`), and
writes ``streamseg/weights/`` (float16 checkpoint, the split of its images, INT8 engine) and ``calibration/``
(the recipe, and the measured INT8 scales); ``--out`` and ``--recipes`` choose other folders. It prints the
fit and, measured for FP32 and INT8, accuracy, calibration error and the share of images called unlike the
training data; the engine's manifest stores these figures and those of the training, and ``python -m
benchmarks.readme`` writes the model card's tables from them.

The licence note of the data (``--licence``, by default what ``licence.txt`` says in ``--data`` and
``--absent``) travels with checkpoint and engine. Weights without any note are refused.

Weights that were trained on all images have none left to be calibrated and measured on. ``--judge`` names
runs of the same net and recipe that each held a part back: each judge's own net answers for that part. The
output calibration is fitted on these answers, and the figures on real images are the judges'; those on
phantoms and the accuracy gate are the shipped weights' own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamseg.backends import load_backend
from streamseg.backends.loading import WEIGHTS
from streamseg.core.errors import DataError, UsageError
from streamseg.core.files import write_whole
from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import (
    Backend,
    Frame,
    Image,
    InputSpec,
    OutputCalibration,
    State,
)
from streamseg.datasets import (
    Dataset,
    RunSplit,
    Sample,
    frame_hash,
    open_dataset,
    read_licence,
    split_last,
)
from streamseg.datasets.phantoms import phantom_samples
from streamseg.datasets.split import SPLIT_FILE, Fold
from streamseg.engines.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore
from streamseg.evaluation.calibration_error import judge_confidence
from streamseg.evaluation.intervals import interval_of_mean
from streamseg.evaluation.overlap import Confusion, summarise
from streamseg.export.build import SCALES_FILE, build_engine, export
from streamseg.export.contract import ExportRequest, ExportResult, LineReporter
from streamseg.export.recipe import HELD_BACK, gather, make_recipe
from streamseg.nets import build_net, fold
from streamseg.phantom import seeds
from streamseg.phantom.seeds import VALIDATION
from streamseg.segmentation.ood_detector import is_out_of_distribution
from streamseg.segmentation.preprocess import unpadded
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.cache import cache_samples
from streamseg.training.config import TrainConfig
from streamseg.training.data import TrainingData
from streamseg.training.ood_examples import out_of_distribution_images
from streamseg.training.output_calibration import fit_output_calibration, video_frames
from streamseg.training.run_folder import stored_config, trained_on_restyled, training_log
from streamseg.training.trainer import read_absent, statistics_batches
from streamseg.training.weights import recompute_statistics

PHANTOMS_FOR_STATISTICS = 200
BY_JUDGES = "measured with the weights of runs that held these images back"
"""In the manifest's accuracy, under ``real_images``, where judges measured the figures on real images."""

Judged = Sequence[tuple[Backend, Iterable[Sample]]]
"""Engines, each with labelled images that its weights were not trained on."""


def average(runs: Sequence[Path]) -> Checkpoint:
    """The mean of several runs' weights, with the last one's specification.

    Each run must have continued from the one before: only then are their weights close enough to be averaged
    (model soups, arXiv:2203.05482).
    """
    checkpoints = [read_checkpoint(run / "weights.safetensors") for run in runs]
    names = checkpoints[0].weights
    stacks = {name: np.stack([checkpoint.weights[name] for checkpoint in checkpoints]) for name in names}
    return replace(
        checkpoints[-1],
        weights={name: np.asarray(stack.mean(axis=0), np.float32) for name, stack in stacks.items()},
    )


def write_weights(
    path: Path,
    runs: Sequence[Path],
    threshold: float,
    min_area: float,
    size: tuple[int, int] | None = None,
    *,
    training: Sequence[Sample] = (),
    absent: Sequence[Path] = (),
    licence: str = "",
    mirrored: bool = False,
) -> Checkpoint:
    """Average runs and fold the result into the shipped checkpoint, still without an output calibration.

    ``size`` (height, width) is the input size to ship; None is that of the last run. ``training`` and
    ``absent`` are the images that the runs were trained on: the BatchNorm statistics of their mean are
    measured on them. ``licence`` is the licence note of those images.
    """
    trained = average(runs)
    height, width = size or (trained.spec.height, trained.spec.width)
    spec = replace(trained.spec, height=height, width=width)
    net = build_net(trained.net, outputs=len(spec.structures)).eval()
    missing, unexpected = net.load_state_dict(
        {name: torch.from_numpy(array) for name, array in trained.weights.items()}, strict=False
    )
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    if training and not _same_statistics(runs):
        _measure_statistics(net, runs[-1], spec, training, absent)
    write_checkpoint(
        path,
        {name: tensor.numpy() for name, tensor in fold(net).state_dict().items()},
        net=trained.net,
        folded=True,
        trained=True,
        spec=replace(spec.calibrated({}), threshold=threshold, min_area=min_area, mirrored=mirrored),
        licence=licence,
        restyled=any(map(trained_on_restyled, runs)),
    )
    return read_checkpoint(path)


def _same_statistics(runs: Sequence[Path]) -> bool:
    """Whether all runs have the same BatchNorm statistics: there is one run, or they were frozen."""
    first, *others = (read_checkpoint(run / "weights.safetensors").weights for run in runs)
    names = [name for name in first if name.endswith(("running_mean", "running_var"))]
    return all(np.array_equal(first[name], other[name]) for other in others for name in names)


def _measure_statistics(
    net: torch.nn.Module, run: Path, spec: InputSpec, training: Sequence[Sample], absent: Sequence[Path]
) -> None:
    """Measure the BatchNorm statistics of averaged weights on images augmented as in the last run."""
    config = replace(stored_config(run) or TrainConfig(), height=spec.height, width=spec.width)
    cache = cache_samples(training, config.spec)
    phantom = None
    if config.phantom_batch:
        count = min(PHANTOMS_FOR_STATISTICS, len(cache))
        drawn = phantom_samples(count, seed=seeds.training(config.seed).take(count))
        phantom = cache_samples(drawn, config.spec)
    without = read_absent(absent, config.spec) if absent else None
    data = TrainingData(cache, Fold(tuple(range(len(cache))), ()), phantom, without)
    recompute_statistics(net, statistics_batches(config, data, "cpu"))


def add_judgements(
    path: Path, checkpoint: Checkpoint, judgements: Mapping[str, OutputCalibration]
) -> Checkpoint:
    """Write a checkpoint again with the output calibration of each structure."""
    write_checkpoint(
        path,
        checkpoint.weights,
        net=checkpoint.net,
        folded=checkpoint.folded,
        trained=checkpoint.trained,
        spec=checkpoint.spec.calibrated(judgements),
        licence=checkpoint.licence,
        restyled=checkpoint.restyled,
    )
    return read_checkpoint(path)


@dataclass(frozen=True, slots=True)
class Judge:
    """A run that held images back, and answers for them in place of weights that were trained on all."""

    run: Path
    split: RunSplit
    held_back: Dataset

    @classmethod
    def read(cls, run: Path, net: str, data: Dataset, frames: Sequence[str]) -> Judge:
        """The judge of a run's folder. ``frames`` are the hashes of the data set's images.

        Raises UsageError for a run of another net or other images, and for one that held nothing back or has
        no ``split.json``.
        """
        found = read_checkpoint(run / "weights.safetensors").net
        if found != net:
            raise UsageError(f"judge {run} is a run of {found}; give runs of {net}")
        split = RunSplit.read(run)
        if split is None:
            raise UsageError(
                f"judge {run} has no split.json, so what it held back is unknown; train it again"
            )
        strange, missing = split.train | split.validation, set(frames)
        if strange != missing:
            raise UsageError(
                f"judge {run} has another data set: {len(strange - missing)} of its images are not in the "
                f"data given, {len(missing - strange)} of the data's are not in its split; give a run on the "
                "same data"
            )
        rows = [row for row, frame in enumerate(frames) if frame in split.validation - split.train]
        if not rows:
            raise UsageError(f"judge {run} held no image back; give runs with --validation above 0")
        return cls(run, split, data.part(rows))

    def write(self, path: Path, spec: InputSpec) -> None:
        """Write its net, folded, as a checkpoint of this specification. Raises UsageError if it cannot."""
        size = (spec.height, spec.width)
        own = write_weights(path, [self.run], spec.threshold, spec.min_area, size)
        if own.spec.structures != spec.structures:
            raise UsageError(
                f"judge {self.run} outlines {', '.join(own.spec.structures)}, the weights to ship "
                f"{', '.join(spec.structures)}; give runs of the same recipe"
            )
        write_checkpoint(path, own.weights, net=own.net, folded=True, trained=True, spec=spec)


def read_judges(runs: Sequence[Path], net: str, data: Dataset, frames: Sequence[str]) -> list[Judge]:
    """The judges of several runs. Raises UsageError as :meth:`Judge.read`, and if two held one image back."""
    judges = [Judge.read(run, net, data, frames) for run in runs]
    for number, judge in enumerate(judges):
        for other in judges[:number]:
            if both := judge.split.validation & other.split.validation:
                raise UsageError(
                    f"judges {other.run} and {judge.run} both held back {len(both)} images, which would "
                    "count twice; give one of them"
                )
    return judges


@dataclass(frozen=True, slots=True)
class _Answer:
    """An engine's answer to one sample, without its masks, which would take too much memory."""

    counts: Mapping[str, Confusion]
    """By structure: those that the engine outlines and the sample has labels of."""
    confidences: Mapping[str, float]
    state: State


def accuracy(backend: Backend, judged: Judged, phantoms: int) -> dict[str, Any]:
    """Figures on held-back images and on phantoms with and without nerve, rounded for a manifest.

    ``judged`` has the engine itself, or the judges' engines, each with the images that it answers for; the
    phantoms are the engine's own. ``structures`` has the same for each other structure that it outlines.
    """
    real = [answer for engine, samples in judged for answer in _answers(samples, engine)]
    made = _answers(phantom_samples(phantoms, seed=VALIDATION.take(phantoms)), backend)
    figures = _by_part(real, made, NERVE)
    others = {name: _by_part(real, made, name) for name in backend.spec.structures[1:]}
    return figures | ({"structures": others} if others else {})


def _by_part(real: Sequence[_Answer], made: Sequence[_Answer], name: str) -> dict[str, Any]:
    """A structure's figures on real images, on phantoms, and on phantoms with it and without it."""
    real, made = ([answer for answer in part if name in answer.counts] for part in (real, made))
    parts = {
        "validation": real,
        "phantom": made,
        f"phantom_with_{name}": [answer for answer in made if answer.counts[name].present],
        f"phantom_without_{name}": [answer for answer in made if not answer.counts[name].present],
    }
    return {key: _figures(part, name) for key, part in parts.items() if part}


def _answers(samples: Iterable[Sample], backend: Backend) -> list[_Answer]:
    segmenter = Segmenter(backend, None, withhold=False)
    answers = []
    for index, sample in enumerate(samples):
        found = segmenter.segment(Frame(sample.image, index, time.monotonic_ns()))
        outlines = found.structures
        labels = {NERVE: sample.nerve, VESSEL: sample.vessel}
        counts = {
            name: Confusion.count(outline.mask, truth)
            for name, outline in outlines.items()
            if (truth := labels.get(name)) is not None
        }
        confidences = {name: outline.confidence for name, outline in outlines.items()}
        answers.append(_Answer(counts, confidences, found.state))
    return answers


def _figures(found: Sequence[_Answer], name: str) -> dict[str, Any]:
    """Accuracy, the states' shares (of the nerve), and the calibration error of the outlines' confidence."""
    counts = [answer.counts[name] for answer in found]
    outlines = [
        (answer.confidences[name], answer.counts[name].dice) for answer in found if answer.counts[name].found
    ]
    values: dict[str, Any] = asdict(summarise(counts))
    interval = interval_of_mean([count.dice for count in counts])
    for state in (State.LOW_CONFIDENCE, State.UNLIKE_TRAINING) if name == NERVE else ():
        values[state.name.lower()] = sum(answer.state is state for answer in found) / len(found)
    if any(count.present for count in counts) and outlines:
        confidence, dice = np.array(outlines).T
        values |= {
            "confidence_mean": confidence.mean(),
            "confidence_ece": judge_confidence(confidence, dice)["ece"],
        }
    rounded = {
        key: round(float(value), 4) if isinstance(value, float) else value for key, value in values.items()
    }
    return rounded | {"dice_interval": interval and [round(end, 4) for end in interval]}


def unlike_shares(spec: InputSpec, validation: Sequence[Sample], videos: int = 20) -> dict[str, float]:
    """Share of images called unlike the training data, by kind: phantom video, and generated ones."""
    assert spec.judgement is not None
    familiar = spec.judgement.familiar
    kinds: dict[str, Iterable[Image]] = {"phantom video": video_frames(videos, VALIDATION.take(videos))}
    kinds |= out_of_distribution_images([sample.image for sample in validation])
    shares = {}
    for kind, images in kinds.items():
        hits = [is_out_of_distribution(image, unpadded(image, spec), familiar) for image in images]
        shares[kind] = round(sum(hits) / len(hits), 4)
    return shares


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, averaged; the last one's input size")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--net", default="improved_unet", help="without runs: the net with shipped weights")
    parser.add_argument(
        "--absent", type=Path, nargs="*", default=[], help="data sets without nerve that the runs had"
    )
    parser.add_argument(
        "--without-nerve",
        type=Path,
        nargs="*",
        default=[],
        help="data sets without nerve that the runs did not have; they help to fit the limit on presence",
    )
    parser.add_argument(
        "--licence",
        help="licence note of the runs' data; default: that in the folders of --data and --absent",
    )
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="input size, if another")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="with runs: calibrate and ship with the mirrored image averaged in",
    )
    parser.add_argument("--min-area", type=float, default=0.001)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for checkpoint and engine")
    parser.add_argument("--recipes", type=Path, default=Path("calibration"))
    parser.add_argument("--phantoms", type=int, default=400, help="phantoms measured on")
    parser.add_argument(
        "--fit-phantoms", type=int, default=300, help="phantoms that the output calibration is fitted on"
    )
    parser.add_argument(
        "--judge",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs of the same net and recipe that held images back, for weights that were trained on all",
    )
    make(parser.parse_args())


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Make the files; returns and prints the figures."""
    data = open_dataset(options.data)
    nets = {read_checkpoint(run / "weights.safetensors").net for run in options.runs} or {options.net}
    if len(nets) > 1:
        raise UsageError(f"runs of {', '.join(sorted(nets))} have no mean; give runs of one net")
    (net,) = nets
    path, engine = options.out / f"{net}.safetensors", f"{net}-openvino-int8"
    shipped = None if options.runs else read_manifest(options.out / engine)[0].accuracy
    frames = [frame_hash(sample.image) for sample in data]
    runs = [split for split in map(RunSplit.read, options.runs) if split is not None]
    judges = read_judges(options.judge, net, data, frames)
    trained = frozenset[str]().union(*(run.train for run in runs))
    if not judges and ((shipped or {}).get("judges") or trained.issuperset(frames)):
        raise UsageError(
            f"the weights were trained on all {len(data)} images, so none can calibrate or measure them; "
            "name runs of the same recipe that held some back: --judge RUN ..."
        )
    if judges:
        training = data.part(row for row, frame in enumerate(frames) if frame in trained or not trained)
        validation = Dataset([entry for judge in judges for entry in judge.held_back.entries])
        runs = []
    else:
        training, validation = split_last(data, HELD_BACK, runs=runs)
    recipe, name = options.recipes / f"{net}.json", options.data.resolve().name
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if shipped is None:
            report = make_weights(path, options, training, judges or validation, folder)
            trainings = trainings_of(options.runs)
        else:
            report, trainings = shipped["judgement"], shipped.get("training", [])
        make_recipe(net, data, data_name=name, runs=runs).write(recipe)
        spec = read_checkpoint(path).spec
        figures: dict[str, Any] = {
            "training": trainings,
            "judgement": report,
            "unlike": unlike_shares(spec, validation),
        }
        if judges:
            figures |= {"real_images": BY_JUDGES, "judges": [judge.run.resolve().name for judge in judges]}
        parts = _stand_ins(judges, folder, spec)
        own = load_backend(path)
        figures["fp32"] = accuracy(own, parts or [(own, validation)], options.phantoms)
        request = ExportRequest(str(path), "openvino", "int8", data=options.data, recipe=recipe)
        say = LineReporter(partial(print, file=sys.stderr))
        built = export(request, EngineStore(folder / "store"), say)
        parts = [
            (_quantised(_stand_in(folder, number), judge, data), judge.held_back)
            for number, judge in enumerate(judges)
        ]
        own = load_backend(built.folder)
        figures["int8"] = accuracy(own, parts or [(own, validation)], options.phantoms)
        if judges:  # the images belong to the reference of the training data, so none can be unlike it
            for precision in ("fp32", "int8"):
                del figures[precision]["validation"]["unlike_training"]
        ship(built, options.out / engine, figures)
        scales = (built.folder / SCALES_FILE).read_bytes()
        write_whole(options.recipes / f"{engine}-{SCALES_FILE}", scales)
    print(json.dumps(figures, indent=1))
    return figures


def _stand_ins(judges: Sequence[Judge], folder: Path, spec: InputSpec) -> list[tuple[Backend, Dataset]]:
    """The judges' nets, FP32, each with what it held back; their weights go to ``folder``."""
    parts = []
    for number, judge in enumerate(judges):
        judge.write(_stand_in(folder, number), spec)
        parts.append((load_backend(_stand_in(folder, number)), judge.held_back))
    return parts


def _stand_in(folder: Path, number: int) -> Path:
    return folder / f"judge-{number}.safetensors"


def _quantised(weights: Path, judge: Judge, data: Dataset) -> Backend:
    """A judge's INT8 engine, its scales measured on images that it was trained on."""
    checkpoint = read_checkpoint(weights)
    recipe = make_recipe(checkpoint.net, data, data_name="", runs=[judge.split])
    images = gather(recipe, data).calibration
    folder = weights.with_suffix("")
    with redirect_stdout(sys.stderr):
        build_engine(checkpoint, "openvino", "int8", folder, images=images, preset=recipe.preset)
    return load_backend(folder)


def make_weights(
    path: Path,
    options: argparse.Namespace,
    training: Dataset,
    held_back: Dataset | Sequence[Judge],
    scratch: Path,
) -> dict[str, Any]:
    """Average and fold the runs into the checkpoint ``path``, calibrated on what they or the judges held
    back; the figures of that fit."""
    licence = options.licence or licence_of([options.data, *options.absent])
    if not licence:
        raise UsageError(
            f"{options.data} has no licence.txt, so the licence of its images is unknown; give --licence TEXT"
        )
    without_nerve = read_without_nerve(options.without_nerve, options.absent)
    plain = write_weights(
        scratch / "plain.safetensors",
        options.runs,
        options.threshold,
        options.min_area,
        tuple(options.size) if options.size else None,
        training=training,
        absent=options.absent,
        licence=licence,
        mirrored=options.mirror,
    )
    judged: Judged
    if isinstance(held_back, Dataset):
        judged = [(load_backend(scratch / "plain.safetensors"), held_back)]
    else:
        judged = _stand_ins(held_back, scratch, plain.spec)
    judgements, report = fit_output_calibration(
        judged,
        (sample.image for sample in training),
        phantoms=options.fit_phantoms,
        without_nerve=without_nerve,
        restyled=plain.restyled,
        say=lambda line: print(line, file=sys.stderr),
    )
    add_judgements(path, plain, judgements)
    _write_split(path, options.runs)
    return report


def licence_of(folders: Sequence[Path]) -> str:
    """The licence notes of several data sets, in one line, each once."""
    return "; ".join(dict.fromkeys(note for note in map(read_licence, folders) if note))


def _write_split(weights: Path, runs: Sequence[Path]) -> None:
    """Write beside weights which images their runs trained on; unknown if a run has no split."""
    splits = [split for split in map(RunSplit.read, runs) if split is not None]
    if len(splits) == len(runs):
        RunSplit.together(splits).write(weights)
    else:
        weights.with_suffix(f".{SPLIT_FILE}").unlink(missing_ok=True)


def trainings_of(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """How each run was trained, as far as its folder says, for the model card: numbers and text."""
    found = []
    for run in runs:
        config, split, log = stored_config(run), RunSplit.read(run), training_log(run)
        found.append(
            {
                "run": run.resolve().name,
                "images": None if split is None else len(split.train),
                "steps": log[-1]["step"] if log else None,
                "hours": round(sum(line["seconds"] for line in log) / 3600, 2) if log else None,
                "config": None if config is None else asdict(config),
            }
        )
    return found


def read_without_nerve(folders: Sequence[Path], trained_on: Sequence[Path]) -> list[Sample]:
    """The images of data sets without nerve. Raises DataError if one has nerve, or is also in a data set
    that a run was trained on."""
    known = {frame_hash(sample.image) for folder in trained_on for sample in open_dataset(folder)}
    samples = [sample for folder in folders for sample in open_dataset(folder)]
    for sample in samples:
        if sample.nerve.any():
            raise DataError(f"{sample.name} has labelled nerve; --without-nerve takes images without any")
        if frame_hash(sample.image) in known:
            raise DataError(
                f"{sample.name} is among the images of --absent that the runs were trained on; give others "
                "for --without-nerve"
            )
    return samples


def ship(built: ExportResult, folder: Path, figures: Mapping[str, Any]) -> None:
    """Put an engine of the store into the package; after any failure the folder is as it was before.

    It becomes portable, because OpenVINO compiles it for the processor that it finds. The figures measured on
    the machine that built it stay, except for the speed.
    """
    files = {name: digest for name, digest in built.manifest.files.items() if name.startswith("model.")}
    manifest = replace(
        built.manifest,
        name=folder.name,
        source=built.manifest.net,
        files=files,
        portable=True,
        speed={},
        calibration={**built.manifest.calibration, "folder": None},
        accuracy=figures,
    )
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        whole = Path(temporary) / "new"
        whole.mkdir()
        for name in files:
            shutil.copyfile(built.folder / name, whole / name)
        manifest.write(whole)
        if folder.exists():
            shutil.move(folder, Path(temporary) / "old")
        whole.rename(folder)


if __name__ == "__main__":
    main()
