"""Recipes: the frames that INT8 scales are measured on, and the frames that engines are judged on.

A recipe names real images by the hash of their pixels and phantoms by their seeds, and never holds a pixel.
The same recipe, weights and versions give the same engine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from streamseg.core.errors import DataError
from streamseg.core.files import parse_json, read_file, write_whole
from streamseg.core.numbers import whole_number
from streamseg.core.types import Grey
from streamseg.datasets import Dataset, RunSplit, Sample, frame_hash, split_last
from streamseg.datasets.phantoms import phantom_samples
from streamseg.phantom.seeds import CALIBRATION, VALIDATION

FORMAT = "streamseg-recipe-1"
PRESETS = ("mixed", "performance")
"""Asymmetric activations if that helps; symmetric ones everywhere."""
MAX_PHANTOMS = 100_000
"""Of a recipe: more would take hours to draw."""
HELD_BACK = 0.2
"""Share of a data set that training holds back; engines are judged on it."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A choice of frames."""

    frames: tuple[str, ...]
    """sha256 of each real image (:func:`frame_hash`), in order."""
    phantoms: int
    """Number of phantoms after the real images."""
    phantom_seed: int
    """Seed of the first phantom; each further one has the next."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The frames that an engine's scales are measured on, and those that it is judged on."""

    name: str
    data: str
    """Name of the real images' data set; ``phantom`` if there are none."""
    seed: int
    """Seed of the choice of real images for calibration."""
    preset: str
    """One of PRESETS."""
    calibration: Draw
    validation: Draw

    @property
    def digest(self) -> str:
        """sha256 of all values but the name."""
        values = {key: value for key, value in asdict(self).items() if key != "name"}
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write as JSON. Raises SinkError."""
        write_whole(path, (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode())


@dataclass(frozen=True, slots=True, repr=False)
class RecipeFrames:
    """A recipe's frames."""

    calibration: list[Grey]
    validation: list[Sample]
    real: int
    """Number of real images in the validation; they come first."""
    data: str
    """Origin of the frames, for the manifest: the data set's name, or what replaced it."""


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises DataError."""
    try:
        values = parse_json(read_file(path))
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        for part in ("calibration", "validation"):
            values[part] = _draw(values[part])
        recipe = Recipe(**values)
    except OSError as error:
        raise DataError(f"cannot read recipe {path}: {error.strerror or error}; give a JSON file") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not a recipe ({error}); see calibration/README.md") from error
    if recipe.preset not in PRESETS:
        raise DataError(f"recipe {path} has the preset {recipe.preset!r}; it is one of {', '.join(PRESETS)}")
    return recipe


def _draw(values: dict[str, Any]) -> Draw:
    draw = Draw(**{**values, "frames": tuple(values["frames"])})
    if not all(isinstance(frame, str) for frame in draw.frames):
        raise ValueError("a frame is named by its hash")
    bounds = ((draw.phantoms, MAX_PHANTOMS), (draw.phantom_seed, 2**63))
    if None in [whole_number(number, 0, most) for number, most in bounds]:
        raise ValueError(f"numbers of phantoms (up to {MAX_PHANTOMS}) and seeds are whole numbers")
    return draw


def make_recipe(
    name: str,
    data: Dataset,
    *,
    data_name: str,
    count: int = 100,
    phantoms: int = 50,
    seed: int = 0,
    runs: Sequence[RunSplit] = (),
) -> Recipe:
    """A recipe from a data set: a seeded choice of the training images, judged on the held-back ones.

    ``runs`` are the splits of the runs that the weights are from, if they are known. Raises DataError for a
    data set that is too small to be split.
    """
    training, validation = split_last(data, HELD_BACK, runs=runs)
    chosen = sorted(Random(seed).sample(range(len(training)), min(count, len(training))))
    return Recipe(
        name=name,
        data=data_name,
        seed=seed,
        preset=PRESETS[0],
        calibration=Draw(
            tuple(frame_hash(training[row].image) for row in chosen), phantoms, CALIBRATION.take(phantoms)
        ),
        validation=Draw(
            tuple(frame_hash(sample.image) for sample in validation),
            2 * phantoms,
            VALIDATION.take(2 * phantoms),
        ),
    )


def phantom_recipe(name: str, *, calibration: int = 100, validation: int = 120) -> Recipe:
    """A recipe of phantoms alone, for use without a data set."""
    return Recipe(
        name=name,
        data="phantom",
        seed=0,
        preset=PRESETS[0],
        calibration=Draw((), calibration, CALIBRATION.take(calibration)),
        validation=Draw((), validation, VALIDATION.take(validation)),
    )


def gather(recipe: Recipe, data: Dataset | None, *, calibrate: bool = True) -> RecipeFrames:
    """A recipe's frames. Without the data set a phantom replaces each real image, and ``data`` says so.
    ``calibrate`` False leaves out the calibration's frames, which only INT8 needs.

    Raises DataError if a given data set lacks images of the recipe.
    """
    found: dict[str, Sample] = {}
    if data is not None:
        found = _by_hash({*recipe.calibration.frames, *recipe.validation.frames}, data, recipe)
    return RecipeFrames(
        calibration=[s.image for s in _samples(recipe.calibration, found)] if calibrate else [],
        validation=_samples(recipe.validation, found),
        real=len(recipe.validation.frames) if found else 0,
        data=origin(recipe, data),
    )


def origin(recipe: Recipe, data: Dataset | None) -> str:
    """Origin of the frames that :func:`gather` gives: the data set's name, or what replaces it."""
    if data is None and (recipe.calibration.frames or recipe.validation.frames):
        return f"phantom, because {recipe.data} was not at hand"
    if recipe.data != "phantom" and (recipe.calibration.phantoms or recipe.validation.phantoms):
        return f"{recipe.data} and phantom"
    return recipe.data


def _samples(draw: Draw, found: dict[str, Sample]) -> list[Sample]:
    stand_ins = 0 if found else len(draw.frames)
    real = [found[frame] for frame in draw.frames] if found else []
    return [*real, *phantom_samples(draw.phantoms + stand_ins, seed=draw.phantom_seed)]


def _by_hash(wanted: set[str], data: Sequence[Sample], recipe: Recipe) -> dict[str, Sample]:
    found = {}
    for sample in data:
        digest = frame_hash(sample.image)
        if digest in wanted:
            found[digest] = sample
    if len(found) < len(wanted):
        raise DataError(
            f"{len(wanted) - len(found)} of {len(wanted)} images of recipe {recipe.name!r} are not in the "
            f"data given; give the data set {recipe.data!r} as it was, or another recipe"
        )
    return found
