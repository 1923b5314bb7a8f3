"""The accuracy gate: no engine enters the store before its masks were compared with those of FP32.

For trained weights it compares the masks of engine and FP32 reference, structure by structure, in the image's
own pixels, on the recipe's validation frames. FP32 and FP16 must give the same masks up to rounding (mean
Dice between them); INT8 and BF16 may differ but not be worse (Dice against the labels). Random weights find
nothing that a label could judge, so their probabilities are compared. An engine's speed is measured here as
well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import numpy as np

from streamseg.backends.loading import DEFAULT, WEIGHTS, load_backend
from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Backend, Frame, Mask, Planes, Tensor
from streamseg.datasets import Sample
from streamseg.engines.manifest import read_manifest
from streamseg.evaluation.overlap import Confusion
from streamseg.phantom import render_still
from streamseg.segmentation.postprocess import Probability
from streamseg.segmentation.preprocess import to_tensor
from streamseg.segmentation.segmenter import Segmenter

MIN_MASK_DICE = 0.998
"""FP32, FP16: mean Dice between the engine's masks and the reference's."""
MAX_DICE_LOST = 0.01
"""INT8, BF16: mean Dice against the labels that the engine may lose."""
MIN_ROUGH_MASK_DICE = 0.85
"""INT8, BF16: mean Dice to the reference's masks. An engine that finds nothing would lose little Dice, or
even gain some, if labels are mostly empty and the weights' own outlines poor."""
MAX_PROBABILITY_DIFFERENCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 1e-1}
"""Random weights: mean difference of the probabilities in a frame."""

WORDS = {
    "mask_dice_mean": "mean Dice between its masks and FP32's",
    "dice_lost": "Dice lost against the labels",
    "probability_difference_mean": "mean difference of a frame's probabilities",
}
WARM_UP, ROUNDS, BLOCK = 3, 60, 3
"""Untimed and timed calls of each engine, and the number of ratios that are close in time."""
MIN_ROUNDS, MAX_SECONDS = 24, 8.0
"""Of a slow engine: timed calls at least, and the time after which there are no more."""

Track = Callable[[Sequence[Sample]], Iterable[Sample]]


def judge(
    engine: Backend,
    reference: Backend,
    samples: Sequence[Sample],
    *,
    precision: str,
    trained: bool,
    real: int = 0,
    track: Track = lambda samples: samples,
) -> dict[str, Any]:
    """Compare an engine with its FP32 reference; values for the manifest's ``gate``.

    The first ``real`` samples are real images, the others phantoms; ``track`` may show progress. ``passed``
    is the verdict, ``reasons`` explains a refusal. The figures are the nerve's; ``structures`` has those of
    each other structure that the engine outlines, with their limits, which are the same. Raises EngineError
    if either of them fails to run or gives numbers that are not probabilities.
    """
    found = {name: _GateFigures() for name in engine.spec.structures}
    one = Segmenter(SingleFrameAdapter(engine), withhold=False)
    two = Segmenter(reference, withhold=False)
    for sample in track(samples):
        pair = zip(_outlines(one, sample), _outlines(two, sample), strict=True)
        for (name, figures), outlines in zip(found.items(), pair, strict=True):
            truth = sample.nerve if name == NERVE else sample.vessel if name == VESSEL else None
            figures.add(*outlines, truth if trained else None)
    judged: dict[str, dict[str, Any]] = {}
    reasons = []
    for name, figures in found.items():
        values = figures.figures(real) if trained else figures.differences()
        limits = _limits(precision, trained, values)
        where = "" if name == NERVE else f" of the {name}"
        reasons += _objections(values, limits, where)
        rounded = {key: round(value, 6) for key, value in values.items()}
        judged[name] = rounded | {"limits": {key: list(limit) for key, limit in limits.items()}}
    nerve = judged.pop(NERVE)
    return {
        "passed": not reasons,
        "kind": "masks" if trained else "probabilities",
        "frames": len(samples),
        "real_frames": real,
        **nerve,
        **({"structures": judged} if judged else {}),
        "reasons": reasons,
    }


def _limits(precision: str, trained: bool, figures: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """The limits by figure: ``least`` or ``most``, and the value; of figures that there are.

    If real images are mixed with phantoms, the same limits hold for the real ones alone: pooled with
    phantoms, which are the majority, a loss of three times the limit on them would pass.
    """
    if not trained:
        return {"probability_difference_mean": ("most", MAX_PROBABILITY_DIFFERENCE[precision])}
    limits: dict[str, tuple[str, float]] = {"mask_dice_mean": ("least", MIN_MASK_DICE)}
    if precision not in ("fp32", "fp16"):
        limits = {"dice_lost": ("most", MAX_DICE_LOST), "mask_dice_mean": ("least", MIN_ROUGH_MASK_DICE)}
    limits |= {f"{name}_real": limit for name, limit in limits.items()}
    return {name: limit for name, limit in limits.items() if name in figures}


def _objections(
    figures: Mapping[str, float], limits: Mapping[str, tuple[str, float]], structure: str
) -> list[str]:
    reasons = []
    for name, (side, limit) in limits.items():
        value = figures[name]
        if not (value >= limit if side == "least" else value <= limit):  # true for NaN as well
            where = f"{structure} on the real images" if name.endswith("_real") else structure
            reasons.append(
                f"{WORDS[name.removesuffix('_real')]}{where} is {value:.4f}, it must be at {side} {limit}"
            )
    return reasons


def _outlines(segmenter: Segmenter, sample: Sample) -> list[tuple[Mask, Probability]]:
    """The mask and the plane of each structure of an engine in a sample."""
    prepared = segmenter.prepare(Frame(sample.image, 0, time.monotonic_ns()))
    planes = segmenter.infer(prepared)
    found = segmenter.finish(prepared, planes)
    masks = [structure.mask for structure in found.structures.values()]
    return list(zip(masks, planes, strict=True))


class SingleFrameAdapter(Described):
    """Wraps an engine that may take several frames per call, so that it can be given one at a time."""

    def __init__(self, engine: Backend) -> None:
        info = EngineInfo.of(engine)
        self.info = replace(info, batch=1, lanes=1)
        self._engine, self._batch, self._calls = engine, info.batch, 0

    def infer(self, tensor: Tensor) -> Planes:
        if self._batch == 1:
            return self._engine.infer(tensor)
        # Every place in the batch is used in turn; the others hold something else.
        place = self._calls % self._batch
        self._calls += 1
        frames = np.repeat(tensor[..., ::-1], self._batch, axis=0)
        frames[place] = tensor[0]
        return np.asarray(self._engine.infer(frames)[place])

    def close(self) -> None:
        """Does nothing: the caller owns the engine."""


class _GateFigures:
    """Collects the gate's figures of one structure, sample by sample."""

    def __init__(self) -> None:
        self._between: list[float] = []
        self._against: list[tuple[int, float, float]] = []
        """Of each sample with labels: its place, and the Dice of the engine and of the reference."""
        self._largest: list[float] = []
        self._mean: list[float] = []

    def add(
        self, engine: tuple[Mask, Probability], reference: tuple[Mask, Probability], truth: Mask | None
    ) -> None:
        """``engine`` and ``reference``: mask and plane; ``truth``: the label, None if there is none."""
        difference = np.abs(engine[1] - reference[1])
        self._largest.append(float(difference.max()))
        self._mean.append(float(difference.mean()))
        if truth is not None:
            one, two = (Confusion.count(mask, truth).dice for mask, _ in (engine, reference))
            self._against.append((len(self._between), one, two))
        self._between.append(Confusion.count(engine[0], reference[0]).dice)

    def differences(self) -> dict[str, float]:
        return {
            "probability_difference_max": max(self._largest),
            "probability_difference_mean": max(self._mean),
        }

    def figures(self, real: int) -> dict[str, float]:
        """All figures; those against labels are left out if no sample has any."""
        figures = {"mask_dice_mean": fmean(self._between), "mask_dice_min": min(self._between)}
        if self._against:
            figures |= _dice_figures(self._against, "")
        figures |= self.differences()
        if 0 < real < len(self._between):
            figures["mask_dice_mean_real"] = fmean(self._between[:real])
            on_real = [row for row in self._against if row[0] < real]
            if 0 < len(on_real) < len(self._against):
                figures |= _dice_figures(on_real, "_real")
        return figures


def _dice_figures(rows: Sequence[tuple[int, float, float]], where: str) -> dict[str, float]:
    """Mean Dice against the labels of the engine and of the reference, and how much the engine loses."""
    engine, reference = fmean(row[1] for row in rows), fmean(row[2] for row in rows)
    return {
        f"dice{where}": engine,
        f"dice{where}_fp32": reference,
        f"dice_lost{where}": reference - engine,
    }


def measure_speed(engine: Backend) -> dict[str, Any]:
    """Values for the manifest's ``speed``: ``ms``, the median of a call on a phantom frame.

    If there is a shipped engine and it takes the same input, the two are called in turn, each first every
    other time: ``shipped_ms`` is the shipped engine's median, ``ratio`` the median of the two times' ratio,
    which holds on a busy machine too because neighbouring calls are compared, and ``ratio_low`` and
    ``ratio_high`` its 95 % interval over blocks of calls. Takes about two seconds on two cores,
    MAX_SECONDS at most.
    """
    batch = EngineInfo.of(engine).batch
    image = to_tensor(render_still(1, nerve=True).image, engine.spec)
    tensor = np.ascontiguousarray(np.repeat(image, batch, axis=0))
    default = WEIGHTS / DEFAULT
    # Without the default engine, it is being made.
    if batch > 1 or not default.exists() or read_manifest(default)[0].spec != engine.spec:
        (own,) = _times([(engine, tensor)])
        return {"ms": round(median(own), 3), "calls": len(own)}
    shipped = load_backend(DEFAULT)
    try:
        own, others = _times([(engine, tensor), (shipped, tensor)])
    finally:
        shipped.close()
    ratio, low, high = ratio_interval(own, others)
    return {
        "ms": round(median(own), 3),
        "calls": len(own),
        "shipped_ms": round(median(others), 3),
        "ratio": round(ratio, 4),
        "ratio_low": round(low, 4),
        "ratio_high": round(high, 4),
    }


def compare_speed(engine: Backend, other: Backend) -> tuple[float, float, float]:
    """The median of an engine's time per frame divided by another's, called in turn, and its 95 % interval.

    Each takes one frame at a time, of its own input size. Takes MAX_SECONDS at most.
    """
    image = render_still(1, nerve=True).image
    pair = [(one, np.ascontiguousarray(to_tensor(image, one.spec))) for one in (engine, other)]
    own, others = _times(pair)
    return ratio_interval(own, others)


def ratio_interval(own: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """The median ratio of neighbouring calls' times, and the ends of its interval of 95 % or more.

    Two rounds make one ratio, since whoever is called second may be slower. Calls that are close in time
    share the machine's other work, so that it is the medians of blocks that count as independent.
    """
    singles = np.log(np.asarray(own, np.float64) / np.asarray(others, np.float64))
    ratios = (singles[: len(singles) // 2 * 2 : 2] + singles[1::2]) / 2
    count = max(1, len(ratios) // BLOCK)
    blocks = sorted(float(np.median(block)) for block in np.array_split(ratios, count))
    # Between order statistics lies the median, whatever the distribution: 97.9 % for the 2nd and 9th of 10.
    outside, place = 2 * 0.5**count, 0
    while (further := outside + 2 * math.comb(count, place + 1) * 0.5**count) <= 0.05:
        outside, place = further, place + 1
    middle = float(np.median(ratios))
    low, high = min(blocks[place], middle), max(blocks[count - 1 - place], middle)
    return math.exp(middle), math.exp(low), math.exp(high)


def _times(engines: list[tuple[Backend, Tensor]]) -> list[list[float]]:
    """Milliseconds of each engine's timed calls; the engines take turns, and so does the first place."""
    times: list[list[float]] = [[] for _ in engines]
    end = time.monotonic() + MAX_SECONDS
    order = list(zip(engines, times, strict=True))
    for number in range(WARM_UP + ROUNDS):
        for (engine, tensor), taken in order:
            began = time.monotonic_ns()
            engine.infer(tensor)
            if number >= WARM_UP:
                taken.append((time.monotonic_ns() - began) / 1e6)
        order.reverse()
        if number >= WARM_UP + MIN_ROUNDS and time.monotonic() > end:
            break
    return times
