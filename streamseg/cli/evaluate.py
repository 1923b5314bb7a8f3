"""``streamseg evaluate``: compares an engine with labelled images."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, put, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.options import EngineOption, JsonOption
from streamseg.core.errors import EngineError, UsageError

if TYPE_CHECKING:
    from streamseg.datasets import RunSplit
    from streamseg.reporting.document import Picture

DETAILS = (
    "detection",
    "intervals",
    "area_px",
    "area_mm2",
    "area_percent",
    "risk_coverage",
    "by_size",
    "by_subject",
    "unlike",
    *(f"centroid_error_{kind}_{unit}" for kind in ("mean", "median") for unit in ("px", "mm")),
)
"""Figures of a structure that are printed in fewer words than they have."""


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder with images/ and masks/, or in Kaggle's or nnU-Net's layout; or phantom[:N].",
        ),
    ],
    engine: EngineOption = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="MM", help="Millimetres per pixel, one number or ROW,COLUMN; gives distances in mm too."
        ),
    ] = None,
    per_image: Annotated[
        bool, typer.Option("--per-image", help="Also print the figures of each image.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write a page of figures, charts and images."),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures",
            help="Show the best and worst images on the page, or no image and no name of the data.",
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Compare an engine's outlines with labelled images.

    Whole images are segmented, as by replay with --roi none. Dice and IoU are computed at the image's own
    size, and are 1 if neither the engine nor the label has nerve. The interval is over subjects if the data
    names them ("interval_over"), else over images, which is too narrow for several images of a subject.
    Sensitivity and specificity refer to "there is nerve in this image", and are null if the data has no such
    images. Distances (Hausdorff 95 %, average surface) are over the images in which both have nerve; their
    number is "outlines". Calibration is given for each pixel's probability (pixel_ece, pixel_brier) and for
    the confidence against the image's Dice. phantom:400 means the synthetic images that the model card's
    figures are from.
    Images unlike the training data, whose outlines a display withholds, count with their outlines; "states"
    gives their number.

    All this is of the nerve. "structures" has the same figures for each structure that the engine outlines
    and the data labels, over the images that are labelled for it, and more: detection, that is, in how many
    images engine and label both have it (true; misplaced: those of them in which they share no pixel), only
    the engine (false), only the label (missed); the error of the centroid; the agreement of areas (bias, 95 %
    limits); risk against coverage by confidence; figures by size of the structure and by subject; intervals
    of the means. "unlike" tells what withholding costs: the Dice of the images called unlike the training
    data with their outlines and without, and by how much the mean Dice of all images would fall ("cost").

    --report writes all this to one HTML file that loads nothing. With pictures it is for local eyes only.

    If the weights' run has stored its split, "trained_on" is the number of these images that it trained on,
    and "dice_mean_held_back" the mean Dice of the others.
    """
    from streamseg.core.engine_info import EngineInfo
    from streamseg.datasets import frame_hash
    from streamseg.datasets.phantoms import open_or_render
    from streamseg.evaluation.dataset import Evaluation
    from streamseg.segmentation.segmenter import Segmenter

    spacing_mm = None if spacing is None else parse_spacing(spacing)
    if report is not None:
        _check_report(report)
    samples = open_or_render(data)[:limit]
    backend = load_engine(engine)
    run = training_split(engine)
    unseen: list[float] = []
    segmenter = Segmenter(backend, None, withhold=False)
    evaluation = Evaluation(segmenter, spacing_mm)
    shown: list[Picture] | None = None
    try:
        with (
            stop_on_signals() as stop,
            Progress(Path(data).resolve().name, len(samples), "images") as progress,
        ):
            for sample in samples:
                figures = evaluation.add(sample)
                if run is not None and frame_hash(sample.image) not in run.train:
                    unseen.append(figures.nerve.count.dice)
                progress.advance()
                if stop:
                    break
        if report is not None and pictures and not stop:
            from streamseg.evaluation.report import extremes

            shown = extremes(evaluation, samples, segmenter)
    finally:
        backend.close()
    if stop:
        done = len(evaluation.images)
        say(f"stopped by {stop.cause} after {done} of {len(samples)} images; no figures of a part")
        raise typer.Exit(stop.exit_code)
    result: dict[str, Any] = {
        **evaluation.to_json(),
        "engine": EngineInfo.of(backend).identity(),
        "data": data,
        "trained_on": None if run is None else len(samples) - len(unseen),
        "dice_mean_held_back": fmean(unseen) if unseen else None,
    }
    if result["trained_on"]:
        say(
            f"the weights were trained on {result['trained_on']} of these {len(samples)} images, which makes "
            "the figures too good; see dice_mean_held_back"
        )
    if report is not None:
        from streamseg.core.files import write_text
        from streamseg.evaluation.report import report_page

        write_text(report, report_page(result, evaluation, shown))
        say(f"wrote {report}" + (", which shows images of the data: for local eyes only" if shown else ""))
    if per_image:
        result["per_image"] = [image.to_json() for image in evaluation.images]
    if as_json:
        print_json(result)
    else:
        _print_lines(result)


def _check_report(path: Path) -> None:
    """Raise UsageError or MissingExtra before any work is done for a page that cannot be written."""
    import streamseg.evaluation.report  # noqa: F401 - draws charts by an optional package
    from streamseg.core.files import can_write

    if path.is_dir() or not can_write(path.absolute().parent):
        raise UsageError(f"--report {path} cannot be written there; give a file in a folder of yours")


def training_split(engine: str | None) -> RunSplit | None:
    """The split of the run that an engine's weights are from; None if it is not known.

    It is stored beside a run's ``weights.safetensors`` and beside shipped weights; an engine that was
    exported from these names them. Raises what :func:`streamseg.backends.loading.locate` raises, and
    DataError for a damaged split.
    """
    from streamseg.backends.loading import DEFAULT, locate, shipped_engine, shipped_nets, weights_file
    from streamseg.datasets import RunSplit
    from streamseg.engines.manifest import read_unchecked

    path = locate(engine or DEFAULT)
    if path.is_dir():
        try:
            manifest = read_unchecked(path).manifest
            path = Path(manifest.source)
            if manifest.source in shipped_nets():
                own = read_unchecked(shipped_engine(manifest.source)).manifest
                if manifest.checkpoint_sha256 != own.checkpoint_sha256:
                    return None  # of the weights that an earlier version shipped
                path = weights_file(manifest.source)
        except EngineError:
            return None
    return RunSplit.read(path) if path.is_absolute() or path.exists() else None


def parse_spacing(text: str) -> tuple[float, float]:
    """Read ``"0.1"`` or ``"0.1,0.12"`` (row, column), in mm per pixel. Raises UsageError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < float("inf") for number in numbers):
        raise UsageError(
            f"spacing {text!r} is not in mm per pixel; give one number, or ROW,COLUMN as 0.1,0.12"
        )
    return numbers[0], numbers[-1]


def _print_lines(result: dict[str, Any]) -> None:
    from streamseg.core.spec import NERVE

    for image in result.pop("per_image", ()):
        put(
            f"{image['name']}  dice {image['dice']:.4f}  iou {image['iou']:.4f}  "
            f"confidence {image['confidence']:.2f}  {image['state']}"
        )
    engine = result["engine"]
    over = "images" if result.pop("interval_over") == "images" else f"{result['subjects']} subjects"
    structures = result.pop("structures")
    others = {name: one for name, one in structures.items() if name != NERVE}
    lines = {
        **_lines_of(result, over),
        **_lines_of_details(structures[NERVE]),
        "states": ", ".join(f"{state} {count}" for state, count in result["states"].items()),
        "engine": f"{engine['name']} (sha256 {engine['sha256'][:12]})",
    }
    if result["trained_on"] is None:
        del lines["trained_on"], lines["dice_mean_held_back"]
    for name, figures in others.items():
        found = _lines_of(figures, over) | _lines_of_details(figures)
        lines |= {f"{name}_{key}": value for key, value in found.items()}
    if result["hd95_mean_mm"] is None:
        lines = {key: value for key, value in lines.items() if not key.endswith("_mm")}
    for key, value in lines.items():
        text = "undefined" if value is None else f"{value:.4f}" if isinstance(value, float) else value
        put(f"{key + ':':<20} {text}")


def _lines_of(figures: dict[str, Any], over: str) -> dict[str, Any]:
    """The figures with their interval in words, and those of the confidence one by one."""
    interval, confidence = figures["dice_interval"], figures["confidence"]
    flat = {
        **{key: value for key, value in figures.items() if key not in DETAILS},
        "dice_interval": interval and f"{interval[0]:.4f} to {interval[1]:.4f} (95 %, over {over})",
        **{f"confidence_{key}": confidence[key] for key in ("ece", "spearman", "auroc")},
    }
    del flat["confidence"]
    return flat


def _lines_of_details(figures: dict[str, Any]) -> dict[str, Any]:
    """What else is known of a structure: the page and --json have more."""
    area, unlike, curve = (figures[key] for key in ("area_percent", "unlike", "risk_coverage"))
    limits = area and area["low"] is not None and f", limits {area['low']:.1f} to {area['high']:.1f} %"
    lines = {
        "detection": ", ".join(f"{count} {kind}" for kind, count in figures["detection"].items()),
        "centroid_error_px": figures["centroid_error_mean_px"],
        "centroid_error_mm": figures["centroid_error_mean_mm"],
        "area_bias": area and f"{area['bias']:+.1f} %{limits or ''}",
        "aurc": curve and curve["aurc"],
    }
    if unlike["images"]:
        lines["unlike"] = (
            f"{unlike['images']} images, dice {unlike['dice_mean']:.4f}, "
            f"withheld {unlike['dice_mean_withheld']:.4f}, cost {unlike['cost']:+.4f}"
        )
    return lines
