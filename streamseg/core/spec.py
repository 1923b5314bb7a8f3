"""A net's input specification and output calibration: values that travel with its weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from streamseg.core.errors import EngineError
from streamseg.core.numbers import finite_number, whole_number

MAX_SIDE = 8192
"""Limit on the rows and on the columns of a net's input."""
NERVE, VESSEL = "nerve", "vessel"
"""Names of structures. The nerve is the first plane of every net's output."""
_STRUCTURE = re.compile("[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class OutputCalibration:
    """What a net's outputs mean, as measured on images that it was not trained on."""

    slope: float
    """Expected Dice of an outline: ``sigmoid(slope * logit(p) + intercept)``, p its mean probability."""
    intercept: float
    doubt: float
    """An outline whose expected Dice is below this has the state LOW_CONFIDENCE, 0..1."""
    presence: float = 0.0
    """An image shows a nerve if its presence score (see postprocess) reaches this, 0..1; 0: the threshold
    decides."""
    familiar: str = ""
    """Ellipsoid of images like the training data, as text: n numbers of its centre, then the n (n + 1) / 2
    of a lower triangular matrix, row by row (see ood_detector). Empty: every image is familiar."""

    def __post_init__(self) -> None:
        try:
            numbers = np.array(self.familiar.split(), np.float64)
            sides = round(math.sqrt(2 * len(numbers) + 2.25) - 1.5)
            good = (
                all(map(math.isfinite, (self.slope, self.intercept, *numbers)))
                and self.slope > 0
                and 0 <= self.doubt <= 1
                and 0 <= self.presence <= 1
                and len(numbers) == sides * (sides + 3) // 2
            )
        except (TypeError, ValueError, AttributeError):
            good = False
        if not good:
            raise EngineError(
                f"invalid output calibration: {str(self)[:200]}; the weights or manifest are damaged"
            )


@dataclass(frozen=True, slots=True)
class StructureSpec:
    """How a structure's plane of the net's output becomes its outline."""

    threshold: float = 0.5
    """A pixel belongs to the structure if its probability reaches this, 0..1."""
    min_area: float = 0.001
    """Minimum area of a part, as a fraction of the image region's area, 0..1. By default a third of the
    smallest vessel that is labelled in 183 images of usgra-seg."""
    judgement: OutputCalibration | None = None
    """What the plane's values mean; None if that was never measured. ``doubt`` and ``familiar`` count for
    the nerve alone, whose state is the frame's."""

    def __post_init__(self) -> None:
        if not _are_limits(self.threshold, self.min_area):
            raise EngineError(
                f"invalid limits of a structure: {str(self)[:200]}; the weights or manifest are damaged"
            )

    def to_json(self) -> dict[str, Any]:
        """Values for JSON, without a missing calibration."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StructureSpec:
        """Read from a mapping. Raises EngineError, or TypeError and its like for anything else."""
        judgement = values.get("judgement")
        known = None if judgement is None else OutputCalibration(**judgement)
        return cls(**{**values, "judgement": known})


def _are_limits(threshold: object, min_area: object) -> bool:
    cut, least = finite_number(threshold, 0, 1), finite_number(min_area, 0, 1)
    return cut is not None and least is not None and 0 < cut < 1


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A net's input, and how its output becomes outlines. The net owns it; it travels with the weights."""

    height: int
    """Rows of the input tensor."""
    width: int
    """Columns of the input tensor."""
    mean: float
    """Subtracted from grey values scaled to 0..1."""
    std: float
    """Divided by, after the mean was subtracted."""
    threshold: float
    """A pixel is nerve if its probability reaches this, 0..1."""
    min_area: float = 0.0
    """Minimum area of a part of the nerve, as a fraction of the image region's area, 0..1."""
    judgement: OutputCalibration | None = None
    """What the nerve's plane means; None if that was never measured."""
    structures: tuple[str, ...] = (NERVE,)
    """The planes of the net's output in order: the nerve, then others such as ``vessel``."""
    others: Mapping[str, StructureSpec] = field(default_factory=dict, hash=False)
    """How structures other than the nerve are outlined, by name; those that are missing have the defaults."""
    mirrored: bool = False
    """Whether the probabilities are the mean of those of the image and of its mirror image, turned back: an
    engine then computes both."""

    def __post_init__(self) -> None:
        numbers = (self.mean, self.std)
        good = (
            whole_number(self.height, 16, MAX_SIDE) is not None
            and whole_number(self.width, 16, MAX_SIDE) is not None
            and all(finite_number(number, -1e6, 1e6) is not None for number in numbers)
            and self.std > 0
            and _are_limits(self.threshold, self.min_area)
            and isinstance(self.structures, tuple)
            and self.structures[:1] == (NERVE,)
            and all(isinstance(name, str) and _STRUCTURE.fullmatch(name) for name in self.structures)
            and len(set(self.structures)) == len(self.structures)
            and set(self.others) <= set(self.structures[1:])
            and all(isinstance(other, StructureSpec) for other in self.others.values())
            and isinstance(self.mirrored, bool)
        )
        if not good:
            raise EngineError(
                f"invalid input specification: {str(self)[:300]}; the weights or manifest are damaged"
            )

    def structure(self, name: str) -> StructureSpec:
        """How one of the structures is outlined, the nerve too. Raises KeyError for any other name."""
        if name == NERVE:
            return StructureSpec(self.threshold, self.min_area, self.judgement)
        if name not in self.structures:
            raise KeyError(name)
        return self.others.get(name, StructureSpec())

    def calibrated(self, judgements: Mapping[str, OutputCalibration]) -> InputSpec:
        """The same with calibrations by structure; those that are not named have none."""
        others = {
            name: replace(self.structure(name), judgement=judgements.get(name))
            for name in self.structures[1:]
        }
        return replace(self, judgement=judgements.get(NERVE), others=others)

    def resized(self, height: int, width: int) -> InputSpec:
        """The same for another input size: without calibrations, which were measured at this one."""
        if (height, width) == (self.height, self.width):
            return self
        return replace(self.calibrated({}), height=height, width=width)

    def to_json(self) -> dict[str, Any]:
        """Values for JSON. A missing calibration, the structures of a net for nerves alone, and ``mirrored``
        if it is false, are left out, as in older files."""
        values = asdict(self)
        if not self.mirrored:
            del values["mirrored"]
        if self.judgement is None:
            del values["judgement"]
        if self.structures == (NERVE,):
            del values["structures"]
        values["others"] = {name: other.to_json() for name, other in self.others.items()}
        if not self.others:
            del values["others"]
        return values

    @classmethod
    def from_json(cls, values: str | Mapping[str, Any]) -> InputSpec:
        """Read from a mapping or JSON text. Raises EngineError."""
        try:
            loaded: Mapping[str, Any] = json.loads(values) if isinstance(values, str) else values
            judgement = loaded.get("judgement")
            known = None if judgement is None else OutputCalibration(**judgement)
            others = {name: StructureSpec.from_json(one) for name, one in loaded.get("others", {}).items()}
            structures = loaded.get("structures", [NERVE])
            if not isinstance(structures, list | tuple):
                raise TypeError(f"structures are a list of names, not {structures!r}")
            changed = {"judgement": known, "structures": tuple(structures), "others": others}
            return cls(**{**loaded, **changed})
        except (TypeError, ValueError, AttributeError) as error:
            raise EngineError(f"cannot read an input specification from {values!r}: {error}") from error
