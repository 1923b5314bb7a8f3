"""``streamseg submit``: the competition's submission file from a folder of test images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg import __version__
from streamseg.cli.console import Progress, Stop, print_json, put_path, say, stop_on_signals
from streamseg.cli.engine import load_engine
from streamseg.cli.evaluate import training_split
from streamseg.cli.options import ForceOption, JsonOption
from streamseg.cli.replay_outputs import check_outputs
from streamseg.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from streamseg.datasets import RunSplit
    from streamseg.evaluation.kaggle_submission import AreaThreshold, NumberedImage, Prediction, ProgressFile
    from streamseg.segmentation.segmenter import Segmenter


def submit(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of the test images, 1.tif, 2.tif, ...")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="CSV", help="File to write.")],
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            "--weights",
            metavar="NAME_OR_PATH",
            help="Name of a shipped engine, an engine folder, or a run's weights.safetensors.",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Labelled images on which the area threshold is chosen."),
    ] = None,
    last: Annotated[
        float | None,
        typer.Option(
            "--validation-last",
            metavar="SHARE",
            help="Use only the images that the run of the weights held back or, if they are not known, the "
            "last block of DATA; train holds out 0.2.",
        ),
    ] = None,
    min_pixels: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Area threshold in pixels.")
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write the Kaggle submission file for a folder of test images.

    It holds a line "img,pixels" for each test image, in numeric order. Outlines smaller than the area
    threshold become empty: it is chosen on --validation for the highest mean Dice (images that the net was
    not trained on, of the test images' size), or set by --min-pixels.

    Finished images are stored in CSV.progress: after Ctrl-C, a crash, or once an unreadable image is replaced
    the same command resumes. CSV itself appears when all images are done.
    """
    if validation is not None and min_pixels is not None:
        raise UsageError("--validation chooses the area threshold and --min-pixels sets it; give one of them")
    if last is not None and (validation is None or not 0 < last < 1):
        raise UsageError(
            f"--validation-last {last} is a share of --validation DATA between 0 and 1; give both, or none"
        )
    check_outputs([out], [], force=force)
    result = _run(SubmitOptions(images, out, engine, validation, last, min_pixels, force))
    least = f"; outlines of fewer than {result['min_pixels']} pixels count as none"
    say(
        f"wrote {result['images']} lines, {result['empty']} of them empty"
        + (least if result["min_pixels"] else "")
    )
    if json:
        print_json(result)
    else:
        put_path(out)


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What the command was asked for; its options say what each means."""

    images: Path
    out: Path
    engine: str | None
    validation: Path | None
    last: float | None
    min_pixels: int | None
    force: bool


def _run(options: SubmitOptions) -> dict[str, Any]:
    from streamseg.core.engine_info import EngineInfo
    from streamseg.evaluation.kaggle_submission import ProgressFile, list_test_images, write_submission
    from streamseg.segmentation.segmenter import Segmenter

    listed = list_test_images(options.images)
    backend = load_engine(options.engine)
    key = {"engine": backend.fingerprint, "name": backend.name, "version": __version__}
    try:
        with stop_on_signals() as stop:
            segmenter = Segmenter(backend, None, withhold=False)
            chosen = None
            if options.validation is not None:
                run = training_split(options.engine)
                chosen = _choose_threshold(options.validation, options.last, run, segmenter, stop)
            smallest = chosen.min_pixels if chosen else options.min_pixels or 0
            with ProgressFile(options.out, key) as finished:
                rows = _predict_all(listed, segmenter, finished, stop)
                empty = write_submission(options.out, rows, smallest, force=options.force)
                finished.remove()
    finally:
        backend.close()
    return {
        "out": str(options.out),
        "images": len(rows),
        "empty": empty,
        "min_pixels": smallest,
        "validation": asdict(chosen) if chosen else None,
        "engine": EngineInfo.of(backend).identity(),
    }


def _choose_threshold(
    path: Path, last: float | None, run: RunSplit | None, segmenter: Segmenter, stop: Stop
) -> AreaThreshold:
    """The area threshold with the highest mean Dice on labelled images; ``run`` is the weights' split."""
    from streamseg.datasets import frame_hash, open_dataset, split_last
    from streamseg.evaluation.dataset import confusions
    from streamseg.evaluation.kaggle_submission import choose_min_pixels

    data = open_dataset(path)
    data = data if last is None else split_last(data, last, runs=[] if run is None else [run])[1]
    counts = []
    trained_on = 0
    with Progress("validation", len(data), "images") as progress:
        for sample in data:
            trained_on += run is not None and frame_hash(sample.image) in run.train
            counts += [count for _, count in confusions([sample], segmenter)]
            progress.advance()
            if stop:
                say(f"stopped by {stop.cause} while choosing the area threshold; nothing was written")
                raise typer.Exit(stop.exit_code)
    if trained_on:
        say(
            f"the weights were trained on {trained_on} of the {len(data)} validation images; "
            "--validation-last leaves these out"
        )
    chosen = choose_min_pixels(counts)
    say(
        f"area threshold {chosen.min_pixels} pixels: mean Dice {chosen.dice_before:.4f} before, "
        f"{chosen.dice_after:.4f} after, on the {chosen.images} validation images that it was chosen on"
    )
    return chosen


def _predict_all(
    images: tuple[NumberedImage, ...], segmenter: Segmenter, finished: ProgressFile, stop: Stop
) -> dict[int, Prediction]:
    """Every image's prediction by number; those that are not finished are made now.

    Unreadable images are skipped, and DataError is raised at the end: then all the others are finished.
    """
    from streamseg.evaluation.kaggle_submission import predict

    rows = {image.number: row for image in images if (row := finished.find(image))}
    if rows:
        say(f"{len(rows)} of {len(images)} images are finished already ({finished.path})")
    failed: list[DataError] = []
    with Progress("submit", len(images), "images", done=len(rows)) as progress:
        for image in images:
            if image.number in rows:
                continue
            if stop:
                say(
                    f"stopped by {stop.cause} after {len(rows)} of {len(images)} images, which are stored in "
                    f"{finished.path}; the same command resumes from there"
                )
                raise typer.Exit(stop.exit_code)
            try:
                rows[image.number] = predict(image, segmenter)
                finished.add(image, rows[image.number])
            except DataError as error:
                failed.append(error)
                progress.say(str(error))
            progress.advance()
    if failed:
        raise DataError(
            f"{len(failed)} of {len(images)} test images cannot be read, first: {failed[0]}; the others are "
            f"stored in {finished.path}, and the same command continues with these"
        )
    return rows
