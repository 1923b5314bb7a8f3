"""Makes the weights and the engine that ship with the package, from finished training runs.

    python -m streamseg.export.defaults --data DATA RUN [RUN ...]

writes ``streamseg/weights/`` (folded float16 checkpoint, INT8 engine) and ``calibration/`` (the recipe of the
INT8 scales), and prints the accuracy of both on the validation block and on phantoms. The model card beside
the weights is written by hand from these figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from streamseg.backends import load_backend
from streamseg.backends.catalog import DEFAULT, WEIGHTS
from streamseg.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from streamseg.datasets import Dataset, open_dataset, split_last
from streamseg.evaluation import confusions
from streamseg.export.engine import write_engine
from streamseg.export.int8 import Recipe, frame_hash, quantise
from streamseg.export.openvino import build_model
from streamseg.metrics import summarise
from streamseg.nets import build_net, fold
from streamseg.segment import Segmenter
from streamseg.training.data import phantom_samples
from streamseg.types import Backend, Grey

VALIDATION = 0.2
"""Share of the data set held back in training and measured on here."""
PHANTOM_SEED = 50_000_000
"""First phantom seed of the figures; training's seeds lie far below."""
PRESET = "mixed"
SEED = 0


def average(runs: Sequence[Path]) -> Checkpoint:
    """The mean of several runs' weights, with the last one's specification.

    The runs must have gone on from one another: only then do their weights lie close enough to be averaged
    (model soups, arXiv:2203.05482).
    """
    checkpoints = [read_checkpoint(run / "weights.safetensors") for run in runs]
    names = checkpoints[0].weights
    stacks = {name: np.stack([checkpoint.weights[name] for checkpoint in checkpoints]) for name in names}
    return replace(
        checkpoints[-1],
        weights={name: np.asarray(stack.mean(axis=0), np.float32) for name, stack in stacks.items()},
    )


def write_weights(runs: Sequence[Path], threshold: float, min_area: float) -> Path:
    """Average runs and fold the result into the shipped checkpoint."""
    trained = average(runs)
    net = build_net(trained.net).eval()
    missing, unexpected = net.load_state_dict(
        {name: torch.from_numpy(array) for name, array in trained.weights.items()}, strict=False
    )
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    path = WEIGHTS / f"{trained.net}.safetensors"
    write_checkpoint(
        path,
        {name: tensor.numpy() for name, tensor in fold(net).state_dict().items()},
        net=trained.net,
        folded=True,
        trained=True,
        spec=replace(trained.spec, threshold=threshold, min_area=min_area),
    )
    return path


def calibration_frames(data: Dataset, count: int, phantoms: int) -> list[Grey]:
    """Images whose activations set the INT8 scales: a seeded choice of training images, and phantoms."""
    chosen = sorted(Random(SEED).sample(range(len(data)), count))
    return [data[i].image for i in chosen] + [s.image for s in phantom_samples(phantoms, seed=SEED)]


def accuracy(backend: Backend, validation: Dataset, phantoms: int) -> dict[str, Any]:
    """Metrics on the validation block and on phantoms with and without nerve, rounded for a manifest."""
    segmenter = Segmenter(backend, None)
    real = [count for _, count in confusions(validation, segmenter)]
    made = [count for _, count in confusions(phantom_samples(phantoms, seed=PHANTOM_SEED), segmenter)]
    parts = {
        "validation": real,
        "phantom": made,
        "phantom_with_nerve": [count for count in made if count.nerve_present],
        "phantom_without_nerve": [count for count in made if not count.nerve_present],
    }
    found = {}
    for name, counts in parts.items():
        values = asdict(summarise(counts)).items()
        found[name] = {key: value if value is None else round(value, 4) for key, value in values}
    return found


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, averaged; the last one's input size")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--min-area", type=float, default=0.001)
    parser.add_argument("--recipes", type=Path, default=Path("calibration"))
    options = parser.parse_args()
    training, validation = split_last(open_dataset(options.data), VALIDATION)
    path = write_weights(options.runs, options.threshold, options.min_area)
    checkpoint = read_checkpoint(path)
    frames = calibration_frames(training, count=100, phantoms=50)
    Recipe(
        data=f"{options.data.name} (training part) and phantom",
        preset=PRESET,
        seed=SEED,
        frames=tuple(frame_hash(frame) for frame in frames),
    ).write(options.recipes / f"{DEFAULT}.json")
    model = quantise(build_model(checkpoint.weights, checkpoint.spec), frames, checkpoint.spec, preset=PRESET)
    figures: dict[str, Any] = {"fp32": accuracy(load_backend(path), validation, phantoms=400)}
    # written twice: the figures are measured on the engine as it is loaded, and then join its manifest
    for measured in (False, True):
        write_engine(
            WEIGHTS / DEFAULT,
            model,
            checkpoint,
            precision="int8",
            accuracy=figures if measured else {},
            versions={"nncf": version("nncf")},
        )
        if not measured:
            figures["int8"] = accuracy(load_backend(WEIGHTS / DEFAULT), validation, phantoms=400)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
