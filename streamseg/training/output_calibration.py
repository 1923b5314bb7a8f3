"""Calibrates a net's outputs on images that it was not trained on: fits its OutputCalibration.

Three questions, each with the smallest model that answers it, because there are few images:

* Is there nerve? One limit on the presence score. It maximises the smaller of sensitivity and specificity on
  phantoms, among limits that keep every outline that overlaps the nerve on a real image. Real frames without
  nerve, if given, count as much as phantoms without it: the smallest of three shares is maximised. Other
  structures have limits of their own, by the same rule, on phantoms alone.
* How good is the outline? Two parameters turn its mean probability into the expected Dice, fitted by
  cross-entropy with the Dice as target (a proper score, so its means are calibrated); real images weigh as
  much as phantoms. Outlines on phantoms without the structure count with Dice 0. Fitted for each structure.
* Is the image like the training images? :mod:`streamseg.training.ood_reference`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Backend, Frame, Grey, InputSpec, OutputCalibration, Say
from streamseg.datasets import Sample
from streamseg.datasets.phantoms import phantom_samples
from streamseg.evaluation.calibration_error import GOOD_DICE, judge_confidence
from streamseg.evaluation.overlap import Confusion
from streamseg.phantom import PhantomVideo
from streamseg.phantom.seeds import JUDGEMENT
from streamseg.segmentation.postprocess import postprocess, presence
from streamseg.segmentation.preprocess import unpadded
from streamseg.segmentation.segmenter import Segmenter
from streamseg.training.ood_reference import feature_rows, fit_ood_reference

MIN_PRESENCE = 0.1
"""No limit is lower: an outline in a fainter map would follow its noise."""
FOLDS = 5
"""Blocks left out in turn to report how well confidences are calibrated."""
DOUBTS = tuple(step / 20 for step in range(6, 15))
"""Candidates for the expected Dice below which an outline has low confidence."""
REAL_COPIES, PHANTOM_COPIES, RESTYLED_COPIES = 4, 2, 4
VIDEO_FRAMES = 6
"""Frames taken from each phantom video, five seconds apart."""
_OPEN = OutputCalibration(slope=1.0, intercept=0.0, doubt=0.0, presence=1e-9)
"""Gives every map an outline, and the mean probability inside it as its confidence."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """A net's output for one structure in one labelled image, before calibration."""

    present: bool
    """Whether the label shows it."""
    presence: float
    """Presence score of the map, 0..1."""
    found: bool
    """Whether there is an outline at all."""
    raw: float
    """Mean probability inside it, 0..1."""
    dice: float
    """Its Dice with the label, 0..1."""


def observe(samples: Iterable[Sample], backend: Backend) -> dict[str, list[Observation]]:
    """A net's outputs by structure, each for the images with labels of it, in their order.

    Raises DataError and EngineError.
    """
    segmenter = Segmenter(backend, None)
    spec = backend.spec.calibrated(dict.fromkeys(backend.spec.structures, _OPEN))
    observed: dict[str, list[Observation]] = {name: [] for name in spec.structures}
    for index, sample in enumerate(samples):
        frame = Frame(sample.image, index, time.monotonic_ns())
        prepared = segmenter.prepare(frame)
        planes = segmenter.infer(prepared)
        found = postprocess(prepared, planes, spec)
        for (name, seen), plane in zip(observed.items(), planes, strict=True):
            truth = sample.nerve if name == NERVE else sample.vessel if name == VESSEL else None
            outline = found.structures[name]
            if truth is not None:
                seen.append(
                    Observation(
                        present=bool(truth.any()),
                        presence=presence(prepared.letterbox.crop(plane)),
                        found=outline.area_px > 0,
                        raw=outline.confidence,
                        dice=Confusion.count(outline.mask, truth).dice,
                    )
                )
    return observed


def fit_presence(
    real: Sequence[Observation],
    phantoms: Sequence[Observation],
    without: Sequence[Observation] = (),
) -> float:
    """The limit on the presence score, 0..1, by the rule in the module's docstring.

    ``without`` are real frames in which the structure is absent.
    """
    scores = _presence_scores(phantoms)
    absent = _presence_scores(without)
    present = np.array([one.present for one in phantoms], np.bool_)
    overlapping = [one.presence for one in real if one.found and one.dice > 0]
    highest = min(overlapping, default=1.0)
    steps = np.unique(np.concatenate([scores, absent, [0.0, 1.0]]))
    limits = np.unique(np.clip((steps[1:] + steps[:-1]) / 2, min(MIN_PRESENCE, highest), highest))
    shares = np.array(
        [
            (
                _share(scores[present] >= limit),
                _share(scores[~present] < limit),
                _share(absent < limit),
            )
            for limit in limits
        ]
    )
    worst, both = shares.min(axis=1), shares.sum(axis=1)
    # A hundredth is well within chance: of nearly equal limits the one with the best sum generalises better.
    both[worst < worst.max() - 0.01] = 0
    best = limits[both == both.max()]
    return float(best[len(best) // 2])


def _presence_scores(observations: Sequence[Observation]) -> Values:
    return np.array([one.presence if one.found else 0.0 for one in observations], np.float64)


def fit_confidence(raw: Values, dice: Values, weights: Values) -> tuple[float, float]:
    """Slope and intercept of ``sigmoid(slope * logit(raw) + intercept)``, the expected Dice; slope > 0.

    ``raw`` and ``dice`` are 0..1, ``weights`` at least 0, all of one length. Newton's method on the weighted
    cross-entropy, slightly regularised towards slope 1 and intercept 0, so that it converges for few values.
    """
    columns = np.stack([_logit(raw), np.ones_like(raw)])
    prior, hold = np.array([1.0, 0.0]), np.diag([0.1, 0.1])
    found = prior.copy()
    for _ in range(100):
        expected = _sigmoid(found @ columns)
        slope = columns @ (weights * (expected - dice)) + hold @ (found - prior)
        bend = (columns * (weights * expected * (1 - expected))) @ columns.T + hold
        step = np.linalg.solve(bend, slope)
        found -= step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    return max(0.01, float(found[0])), float(found[1])


def choose_low_confidence_limit(expected: Values, dice: Values, weights: Values) -> float:
    """The limit among DOUBTS that best separates bad outlines (Dice below 0.5) from good ones."""
    good = dice >= GOOD_DICE
    bad_weight, good_weight = (max(1e-12, float(weights[rows].sum())) for rows in (~good, good))
    scores = [
        weights[~good & (expected < doubt)].sum() / bad_weight
        + weights[good & (expected >= doubt)].sum() / good_weight
        for doubt in DOUBTS
    ]
    return DOUBTS[int(np.argmax(scores))]


def fit_output_calibration(
    judges: Sequence[tuple[Backend, Iterable[Sample]]],
    training: Iterable[Grey],
    *,
    phantoms: int = 300,
    videos: int = 20,
    restyled: bool = False,
    without_nerve: Iterable[Sample] = (),
    say: Say = lambda _: None,
) -> tuple[dict[str, OutputCalibration], dict[str, Any]]:
    """A net's calibrations by structure, and a report of how well they hold, as plain values for JSON.

    ``judges`` are the net, FP32, and labelled images that it was not trained on; or, if it was trained on
    all, nets that stand in for it, of the same specification, each with the images that it was not trained
    on. They answer equal shares of the phantoms and of ``without_nerve``, real frames that they were not
    trained on either. A calibration that they already have is ignored. ``training`` are the images that the
    net itself was trained on; ``restyled`` says that it was trained with restyled copies of them, too: then
    these are like the training data. The report is of the nerve; for a net with others it has their reports
    in ``structures``. Raises DataError for too few.
    """
    spec = judges[0][0].spec
    say("calibrating: validation images")
    real = _together([observe(validation, backend) for backend, validation in judges])
    say(f"calibrating: {phantoms} phantoms")
    stills: list[Grey] = []
    seed = JUDGEMENT.take(phantoms)
    starts = [number * phantoms // len(judges) for number in range(len(judges) + 1)]
    drawn = _together(
        [
            observe(_collecting(phantom_samples(end - start, seed=seed + start), spec, stills), backend)
            for (backend, _), start, end in zip(judges, starts[:-1], starts[1:], strict=True)
        ]
    )
    frames = list(without_nerve)
    shares = [observe(frames[n :: len(judges)], backend) for n, (backend, _) in enumerate(judges)]
    empty = _together(shares)[NERVE]
    fitted = {
        name: _fit_structure(real[name], drawn[name], empty if name == NERVE else ())
        for name in spec.structures
    }
    say("calibrating: reference of the training data")
    reference = fit_ood_reference(
        [
            feature_rows(training, spec, REAL_COPIES, restyled=RESTYLED_COPIES if restyled else 0),
            np.concatenate(
                [
                    feature_rows(stills, spec, PHANTOM_COPIES),
                    feature_rows(video_frames(videos, JUDGEMENT.take(videos)), spec, PHANTOM_COPIES),
                ]
            ),
        ]
    )
    calibrations = {name: calibration for name, (calibration, _) in fitted.items()}
    calibrations[NERVE] = replace(calibrations[NERVE], familiar=reference.text)
    reports = {name: report for name, (_, report) in fitted.items()}
    return calibrations, {
        **reports.pop(NERVE),
        "familiar": dict(zip(("training_alarms", "phantom_alarms"), reference.alarms, strict=True)),
        **({"structures": reports} if reports else {}),
    }


def _together(answers: Sequence[Mapping[str, list[Observation]]]) -> dict[str, list[Observation]]:
    """The observations of several nets by structure, one net after the other."""
    return {name: [one for answer in answers for one in answer[name]] for name in answers[0]}


def _fit_structure(
    real: Sequence[Observation], drawn: Sequence[Observation], without: Sequence[Observation]
) -> tuple[OutputCalibration, dict[str, Any]]:
    """One structure's calibration, and its report, from real images, phantoms and real frames without it."""
    limit = fit_presence(real, drawn, without)
    with_it = _presence_scores([one for one in real if one.present])
    without_it = _presence_scores([*without, *(one for one in real if not one.present)])
    groups = [[one for one in part if one.found and one.presence >= limit] for part in (real, drawn)]
    (slope, intercept), doubt, confidence = _fit_confidences(groups)
    return OutputCalibration(slope, intercept, doubt, presence=limit), {
        "presence": {
            "limit": limit,
            "sensitivity": _share([one.found and one.presence >= limit for one in drawn if one.present]),
            "specificity": _share(
                [not one.found or one.presence < limit for one in drawn if not one.present]
            ),
            "real": {
                "with": len(with_it),
                "sensitivity": _share(with_it >= limit) if len(with_it) else None,
                "without": len(without_it),
                "specificity": _share(without_it < limit) if len(without_it) else None,
            },
        },
        "confidence": {"slope": slope, "intercept": intercept, "doubt": doubt, **confidence},
    }


def _collecting(samples: Iterable[Sample], spec: InputSpec, images: list[Grey]) -> Iterator[Sample]:
    """Pass samples on and collect their images as they enter the net, because drawing phantoms is slow."""
    for sample in samples:
        images.append(unpadded(sample.image, spec).copy())
        yield sample


def video_frames(videos: int, seed: int) -> Iterable[Grey]:
    """Frames of phantom videos with a nerve, without one, and with one that comes and goes."""
    for number in range(videos):
        video = PhantomVideo(seed + number, nerve=(True, False, None)[number % 3])
        for second in range(VIDEO_FRAMES):
            yield video.frame(round(second * 5 * video.fps)).image


def _fit_confidences(
    groups: Sequence[Sequence[Observation]],
) -> tuple[tuple[float, float], float, dict[str, Any]]:
    """Slope and intercept, the low-confidence limit, and each group's reliability (validation, phantom)."""
    raw = [np.array([one.raw for one in group], np.float64) for group in groups]
    dice = [np.array([one.dice for one in group], np.float64) for group in groups]
    weights = [np.full(len(group), 100.0 / max(1, len(group))) for group in groups]
    expected = [np.zeros_like(values) for values in raw]
    for fold in range(FOLDS):
        out = [np.arange(len(values)) * FOLDS // max(1, len(values)) == fold for values in raw]
        rest = [
            np.concatenate([values[~rows] for values, rows in zip(parts, out, strict=True)])
            for parts in (raw, dice, weights)
        ]
        slope, intercept = fit_confidence(rest[0], rest[1], rest[2])
        for values, found, rows in zip(raw, expected, out, strict=True):
            found[rows] = _sigmoid(slope * _logit(values[rows]) + intercept)
    doubt = choose_low_confidence_limit(*(np.concatenate(parts) for parts in (expected, dice, weights)))
    report = {
        name: _reliability(raw[part], expected[part], dice[part], doubt)
        for part, name in enumerate(("validation", "phantom"))
    }
    return (
        fit_confidence(np.concatenate(raw), np.concatenate(dice), np.concatenate(weights)),
        doubt,
        report,
    )


def _reliability(raw: Values, expected: Values, dice: Values, doubt: float) -> dict[str, Any]:
    """The reliability of raw and calibrated confidences; the latter are from fits without the images."""
    if not len(raw):
        return {"outlines": 0}
    before, after = judge_confidence(raw, dice), judge_confidence(expected, dice)
    good = dice >= GOOD_DICE
    return {
        "outlines": len(raw),
        "dice_mean": float(dice.mean()),
        "raw_mean": float(raw.mean()),
        "raw_ece": before["ece"],
        "judged_mean": float(expected.mean()),
        "judged_ece": after["ece"],
        "spearman": after["spearman"],
        "auroc": after["auroc"],
        "bad_doubted": _share(expected[~good] < doubt) if (~good).any() else None,
        "good_doubted": _share(expected[good] < doubt) if good.any() else None,
    }


def _share(hits: npt.ArrayLike) -> float:
    """Share of true values; 1 for no values, so that what cannot be measured decides nothing."""
    values = np.asarray(hits, np.bool_)
    return float(values.mean()) if values.size else 1.0


def _logit(values: Values) -> Values:
    bounded = np.clip(values, 1e-4, 1 - 1e-4)
    return np.log(bounded / (1 - bounded))


def _sigmoid(values: Values) -> Values:
    return 0.5 + 0.5 * np.tanh(values / 2)
