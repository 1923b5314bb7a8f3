"""The accuracy tables of the model card, the README and docs/results.md.

``python -m benchmarks.readme`` writes them between ``<!-- accuracy SELECTION -->`` and
``<!-- /accuracy -->``, from the newest result of :mod:`benchmarks.accuracy` of every shipped INT8 engine, and
from the figures in the manifests of these engines. A result of another engine of the same name is refused.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.accuracy import EngineAccuracy, StructureAccuracy, VideoAccuracy, newest
from streamseg.backends.loading import DEFAULT_NET, shipped_engine, shipped_nets, weights_file
from streamseg.benchmark.tables import TITLES
from streamseg.core.errors import DataError
from streamseg.core.spec import NERVE, VESSEL
from streamseg.engines.manifest import read_manifest
from streamseg.export.choose_default import Candidate, choose
from streamseg.reporting.formatting import UNKNOWN, figure, percent, table

NOT_MEASURED = "Not measured yet."
PRECISIONS = {"fp32": "FP32", "int8": "INT8"}
MODES = {"frames": "replay", "live": "live"}
VIDEOS = {
    "clips": "calf, no nerve",
    "without": "phantom without nerve",
    "resting": "phantom, probe at rest",
    "sliding": "phantom, probe sliding",
    "recorded": "the same with drops",
}
Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ShippedNet:
    """A net that ships, with all that is known of its accuracy."""

    name: str
    measured: EngineAccuracy
    """By :mod:`benchmarks.accuracy`, of its INT8 engine."""
    file: Path
    """Of that result."""
    stated: Mapping[str, Any]
    """``accuracy`` in the engine's manifest."""

    @property
    def title(self) -> str:
        """``improved U-Net``."""
        return TITLES.get(self.name, self.name)

    @property
    def structures(self) -> list[str]:
        """What it outlines, the nerve first."""
        return self.measured.structures

    def part(self, name: str, structure: str = NERVE) -> StructureAccuracy | None:
        """The figures of a structure on one kind of images; None if they were not measured."""
        part = self.measured.parts.get(name)
        return None if part is None else part.structures.get(structure)

    def candidate(self) -> Candidate | None:
        """What the rule for the default asks of it; None if a figure is missing."""
        own, other, cost = self.part("own"), self.part("other"), self.measured.cost
        if None in (own, other, cost.ratio) or own is None or other is None or cost.ratio is None:
            return None
        if own.dice_mean is None or other.dice_mean is None:
            return None
        clips = self.measured.video.get("clips frames")
        low, high = cost.ratio_interval or (cost.ratio, cost.ratio)
        outlined = clips.outlined if clips else None
        return Candidate(self.name, own.dice_mean, other.dice_mean, outlined, (cost.ratio, low, high))


def read_nets(results: Path) -> list[ShippedNet]:
    """The nets that ship, the default first. Raises DataError if one was not measured, EngineError."""
    measured, found = newest(results), []
    for net in shipped_nets():
        folder = shipped_engine(net)
        manifest, sha256 = read_manifest(folder)
        file, one = measured.get(folder.name, (results, None))
        if one is None or one.engine.get("sha256") != sha256:
            raise DataError(
                f"{results} has no accuracy of the engine {folder.name} that ships; measure it with: "
                f"python -m benchmarks.accuracy {folder.name}"
            )
        found.append(ShippedNet(net, one, file, manifest.accuracy))
    return found


def lines(results: Path, selection: str, folder: Path) -> list[str]:
    """The text between the marks. ``folder`` is that of the document, which links are relative to.

    Raises DataError, and KeyError for an unknown selection.
    """
    nets = read_nets(results)
    found = SELECTIONS[selection](nets)
    return [*found, "", *prose(origin(nets, folder))] if selection == "short" else found


def origin(nets: Sequence[ShippedNet], folder: Path) -> str:
    """Where the figures are from."""
    named = ", ".join(f"[{net.title}]({Path(os.path.relpath(net.file, folder)).as_posix()})" for net in nets)
    by_others = "".join(
        f" {net.title} on its own machine: {how}."
        for net in nets
        if (part := net.measured.parts.get("own")) is not None
        and part.from_manifest
        and (how := net.stated.get("real_images"))
    )
    return f"(`python -m benchmarks.accuracy`: {named}.{by_others})"


def files_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """What lies in the folder of weights."""
    rows = []
    for net in nets:
        default = (
            ": **the default engine**"
            if net.name == DEFAULT_NET
            else f", `--engine {net.name}-openvino-int8`"
        )
        rows += [
            (f"`{net.name}.safetensors`", f"{net.title}, folded to its inference form, float16"),
            (f"`{net.name}-openvino-int8/`", f"the same quantised to INT8 for OpenVINO{default}"),
        ]
        if weights_file(net.name).with_suffix(".split.json").exists():
            rows.append(
                (f"`{net.name}.split.json`", "which images trained it, by hash, so that `evaluate` knows")
            )
    return table(("file", "what"), rows)


def default_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """The figures of the rule by which the default was chosen."""
    found = [(net, net.candidate()) for net in nets]
    rows = [
        (
            net.title,
            dice(one.own),
            dice(one.other),
            dice(one.score),
            times(one.ratio[0], one.ratio[1:] if net.measured.cost.ratio_interval else None),
        )
        for net, one in found
        if one is not None
    ]
    candidates = [one for _, one in found if one is not None]
    if not candidates:
        return [NOT_MEASURED]
    chosen, why = choose(candidates)
    words = f"By this rule the default is {TITLES.get(chosen, chosen)}: {why}."
    if len(nets) == 1:
        words = f"{nets[0].title} is the only net that ships so far."
    elif len(candidates) < len(nets):
        words = "The other nets are not measured yet."
    head = ("net", "own machine", "another machine", "mean of both", "time per frame")
    return [*table(head, rows), "", *prose(words)]


def dice_lines(part: str, nets: Sequence[ShippedNet]) -> list[str]:
    """Overlap and distances on labelled images of a machine."""
    head = (
        "INT8 engine",
        "structure",
        "images",
        "Dice, mean (95 %)",
        "median",
        "IoU",
        "found",
        "Dice < 0.5",
        "smallest third",
    )
    rows = [
        (
            net.title,
            name,
            one.images,
            of(one.dice_mean, one.dice_interval),
            dice(one.dice_median),
            dice(one.iou_mean),
            share(one.sensitivity),
            share(one.bad),
            dice(one.smallest_third),
        )
        for net in nets
        for name in net.structures
        if (one := net.part(part, name)) is not None and one.images
    ]
    return [*table(head, rows), "", *prose(remarks(part, nets))] if rows else [NOT_MEASURED]


def remarks(part: str, nets: Sequence[ShippedNet]) -> str:
    """How the figures of a part were measured, and what the detector of unlike images costs."""
    words = []
    for net in nets:
        found = net.measured.parts.get(part)
        if found is None:
            continue
        over = f"{found.subjects} subjects" if found.subjects else "images"
        words.append(f"{net.title}: intervals over {over}")
        if part == "own" and found.from_manifest and (how := net.stated.get("real_images")):
            judges = ", ".join(net.stated.get("judges", ()))
            words[-1] += f"; trained on all of these images, therefore {how} ({judges})"
        elif found.unlike is not None:
            cost = found.unlike_cost or 0.0
            effect = (
                f", which {'costs' if cost >= 0 else 'gains'} {dice(abs(cost))} Dice when they are withheld"
            )
            words[-1] += (
                f"; {found.unlike} images called unlike the training data{effect if found.unlike else ''}"
            )
    return ". ".join(words) + "." if words else NOT_MEASURED


def absent_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """Shares of frames without nerve that get an outline."""
    head = ("frames without nerve", *(net.title for net in nets))
    rows = [
        ("muscle, stills: outlined (95 %)", *(false_share(net.part("muscle")) for net in nets)),
        ("the same, as displayed", *(share(displayed(net)) for net in nets)),
        ("clips of a calf, replay", *(outlined(net, "clips frames") for net in nets)),
        ("the same, live", *(outlined(net, "clips live") for net in nets)),
    ]
    clips = next((found for net in nets if (found := net.measured.video.get("clips frames"))), None)
    stills = next((found for net in nets if (found := net.measured.parts.get("muscle"))), None)
    words = [
        f"{stills.images} stills of {stills.subjects} people" if stills else "",
        f"{clips.frames} frames of three clips" if clips else "",
    ]
    if not any(words):
        return [NOT_MEASURED]
    trained = [net.title for net in nets if trained_on_absent(net)]
    seen = (
        f" Stills of this kind trained {' and '.join(trained)}; the clips trained no net." if trained else ""
    )
    return [
        *table(head, rows),
        "",
        *prose(
            f"{', '.join(filter(None, words))}. As displayed: without the frames that are called unlike the "
            f"training data.{seen}"
        ),
    ]


def trained_on_absent(net: ShippedNet) -> bool:
    """Whether real images without nerve were among those that trained a net."""
    runs = net.stated.get("training", ())
    return any((run.get("config") or {}).get("absent_batch") for run in runs)


def displayed(net: ShippedNet) -> float | None:
    """Share of the stills without nerve that a display shows an outline on: the Dice of such an image is 1
    without an outline, else 0."""
    part, one = net.measured.parts.get("muscle"), net.part("muscle")
    if part is None or one is None or one.dice_mean is None or part.unlike_cost is None:
        return None
    return round(1 - (one.dice_mean - part.unlike_cost), 4)


def false_share(one: StructureAccuracy | None) -> str:
    """The share of images without the structure that have an outline of it."""
    if one is None or one.specificity is None:
        return UNKNOWN
    interval = one.specificity_interval
    turned = None if interval is None else (1 - interval[1], 1 - interval[0])
    return shares(round(1 - one.specificity, 4), turned)


def outlined(net: ShippedNet, kind: str) -> str:
    """The share of a kind of video's frames that have an outline of a nerve."""
    found = net.measured.video.get(kind)
    return UNKNOWN if found is None else share(found.outlined)


def phantom_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """Presence and overlap on phantoms."""
    head = (
        "INT8 engine",
        "structure",
        "phantoms",
        "Dice, mean (95 %)",
        "sensitivity (95 %)",
        "specificity (95 %)",
    )
    rows = [
        (
            net.title,
            name,
            one.images,
            of(one.dice_mean, one.dice_interval),
            of(one.sensitivity, one.sensitivity_interval),
            of(one.specificity, one.specificity_interval),
        )
        for net in nets
        for name in net.structures
        if (one := net.part("phantoms", name)) is not None
    ]
    return table(head, rows)


def video_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """Steadiness of outlines in videos."""
    head = ("INT8 engine", "video", "frames", "outlined", "on/off a second", "Dice", "found", "lag, frames")
    rows = [video_row(net, kind, one) for net in nets for kind, one in net.measured.video.items()]
    return table(head, rows) if rows else [NOT_MEASURED]


def video_row(net: ShippedNet, kind: str, one: VideoAccuracy) -> Sequence[object]:
    """One way of outlining one kind of videos."""
    source, mode = kind.split()
    return (
        net.title,
        f"{VIDEOS.get(source, source)}, {MODES.get(mode, mode)}",
        one.frames,
        share(one.outlined),
        figure(one.switches_per_s),
        dice(one.dice_mean),
        share(one.found),
        figure(one.lag_frames),
    )


def cost_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """Time per frame."""
    head = ("INT8 engine", "input", "parameters' file, MB", "ms a call", "time of improved U-Net's")
    rows = [
        (
            net.title,
            net.measured.input,
            figure(weights_file(net.name).stat().st_size / 1e6),
            figure(net.measured.cost.ms),
            times(net.measured.cost.ratio, net.measured.cost.ratio_interval),
        )
        for net in nets
    ]
    if all(net.measured.cost.ratio is None for net in nets):
        return [NOT_MEASURED]
    machines = dict.fromkeys(
        f"{net.measured.machine.get('processor', 'an unnamed processor')}, "
        f"{net.measured.machine.get('cores', 0)} cores"
        for net in nets
    )
    busy = max((net.measured.cost.others_share or 0.0 for net in nets), default=0.0)
    loud = f", while other processes took {percent(busy)} of the processor" if busy > 0.1 else ""
    return [*table(head, rows), "", *prose(f"On {' and '.join(machines)}{loud}; calls in turn.")]


def precision_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """What quantisation costs, as measured when the engines were made."""
    parts = {"validation": "held-back images", "phantom": "phantoms"}
    rows = []
    for net in nets:
        for precision, name in PRECISIONS.items():
            stated = net.stated.get(precision, {})
            by_structure = {NERVE: stated, **stated.get("structures", {})}
            for structure, found in by_structure.items():
                rows += [
                    (
                        net.title,
                        name,
                        structure,
                        words,
                        one["images"],
                        f"{one['dice_mean']:.3f}",
                        f"{one['dice_median']:.3f}",
                        dice(one.get("sensitivity")),
                        dice(one.get("specificity")),
                    )
                    for part, words in parts.items()
                    if (one := found.get(part)) is not None
                ]
    head = ("net", "", "structure", "on", "images", "Dice, mean", "median", "sensitivity", "specificity")
    return table(head, rows)


def confidence_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """How well the confidence predicts the Dice."""
    rows = [row for net in nets for row in confidence_rows(net)]
    head = (
        "net",
        "structure",
        "outlines on",
        "calibration error (before)",
        "low below",
        "low of Dice < 0.5",
        "low of the others",
    )
    return table(head, rows)


def confidence_rows(net: ShippedNet) -> Iterator[Sequence[object]]:
    """The fit of a net's confidences, on images left out of the fit."""
    judged = net.stated.get("judgement", {})
    for structure, report in {NERVE: judged, **judged.get("structures", {})}.items():
        fit = report.get("confidence", {})
        for part, words in (("validation", "held-back images"), ("phantom", "phantoms")):
            one = fit.get(part, {})
            if one.get("outlines"):
                yield (
                    net.title,
                    structure,
                    f"{one['outlines']} {words}",
                    f"{dice(one['judged_ece'])} ({dice(one['raw_ece'])})",
                    fit["doubt"],
                    share(one["bad_doubted"]),
                    share(one["good_doubted"]),
                )


def unlike_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """Which images are called unlike the training data."""
    kinds = dict.fromkeys(kind for net in nets for kind in net.stated.get("unlike", {}))
    rows = [(kind, *(share(net.stated.get("unlike", {}).get(kind)) for net in nets)) for kind in kinds]
    return table(("kind", *(net.title for net in nets)), rows)


def training_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """The runs that the weights are from, as far as their manifests say."""
    rows = [
        (net.title, run["run"], *run_figures(run)) for net in nets for run in net.stated.get("training", ())
    ]
    if not rows:
        return ["The manifests name no runs."]
    head = ("net", "run", "images", "steps", "hours", "images, without nerve and phantoms a step", "restyled")
    return table(head, rows)


def run_figures(run: Mapping[str, Any]) -> Sequence[object]:
    """A run's figures in words."""
    config = run.get("config") or {}
    step = " + ".join(str(config[key]) for key in ("batch", "absent_batch", "phantom_batch") if key in config)
    return (
        run.get("images"),
        run.get("steps"),
        figure(run.get("hours")),
        step or UNKNOWN,
        share(config.get("restyle")),
    )


def short_lines(nets: Sequence[ShippedNet]) -> list[str]:
    """The few lines of the README: every net in a column."""
    head = (
        "INT8 engine, Dice with 95 % interval",
        *(f"{net.title}{' (default)' if net.name == DEFAULT_NET else ''}" for net in nets),
    )
    rows: list[Sequence[object]] = []
    for part, where in (("own", "own machine"), ("other", "another machine, never trained on")):
        for structure in (NERVE, VESSEL):
            found = [net.part(part, structure) for net in nets]
            if any(one is not None and one.dice_mean is not None for one in found):
                rows.append((f"{structure}, {where}", *map(of_dice, found)))
    rows += [
        (
            "calf clips without nerve: frames outlined",
            *(outlined(net, "clips frames") for net in nets),
        ),
        ("phantoms: sensitivity / specificity", *(presence(net.part("phantoms")) for net in nets)),
        ("time per frame, of improved U-Net's", *(times(net.measured.cost.ratio, None) for net in nets)),
    ]
    measured = [row for row in rows if any(UNKNOWN not in str(cell).split() for cell in row[1:])]
    return table(head, measured)


def presence(one: StructureAccuracy | None) -> str:
    """``0.96 / 0.92``."""
    return UNKNOWN if one is None else f"{dice(one.sensitivity)} / {dice(one.specificity)}"


def of_dice(one: StructureAccuracy | None) -> str:
    """Mean Dice and interval."""
    return UNKNOWN if one is None else of(one.dice_mean, one.dice_interval)


def dice(value: float | None) -> str:
    """A Dice, or another share of 0..1, with three digits after the point."""
    return UNKNOWN if value is None else f"{value:.3f}"


def of(value: float | None, interval: Interval) -> str:
    """``0.512 (0.48 to 0.54)``."""
    if value is None or interval is None:
        return dice(value)
    return f"{value:.3f} ({interval[0]:.2f} to {interval[1]:.2f})"


def share(value: float | None) -> str:
    """A share in percent."""
    return percent(value)


def shares(value: float | None, interval: Interval) -> str:
    """``41 % (12 to 80)``."""
    if value is None or interval is None:
        return percent(value)
    return f"{percent(value)} ({100 * max(0.0, interval[0]):.0f} to {100 * min(1.0, interval[1]):.0f})"


def times(ratio: float | None, interval: Sequence[float] | None) -> str:
    """``0.41 (0.38 to 0.45)``."""
    if ratio is None:
        return UNKNOWN
    return f"{ratio:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def prose(words: str) -> list[str]:
    """Lines of text that is not too wide."""
    return textwrap.wrap(words, 120, break_long_words=False, break_on_hyphens=False)


SELECTIONS: Mapping[str, Callable[[Sequence[ShippedNet]], list[str]]] = {
    "files": files_lines,
    "default": default_lines,
    "own": partial(dice_lines, "own"),
    "other": partial(dice_lines, "other"),
    "absent": absent_lines,
    "phantoms": phantom_lines,
    "video": video_lines,
    "cost": cost_lines,
    "precision": precision_lines,
    "confidence": confidence_lines,
    "unlike": unlike_lines,
    "training": training_lines,
    "short": short_lines,
}
"""What a document can ask for."""
