"""Writes the report of a replication from its stored results.

    python -m streamseg.reproduction.report REPORT [--export FOLDER]

writes the report again without the data, for example on another machine than the one that trained.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamseg.core.errors import StreamsegError, UsageError
from streamseg.core.files import finite, write_json, write_text, write_whole
from streamseg.reporting.document import Block, Bullets, Heading, Paragraph, Picture, to_html, to_markdown
from streamseg.reproduction import paper, tables
from streamseg.reproduction.architecture import read_architecture
from streamseg.reproduction.claims import Claim, judge
from streamseg.reproduction.figures import dice_figure, example_figure, loss_figure
from streamseg.reproduction.plan import FORMAT
from streamseg.reproduction.results import FoldResult, Results, read_results
from streamseg.reproduction.sentences import (
    collapses,
    data_words,
    differences,
    limits,
    machine_words,
    quotation,
    setting_words,
    status,
    trial_words,
    verdicts,
)
from streamseg.reproduction.summary import ReplicationSummary, summarise
from streamseg.reproduction.trials import TrialResult, precision_checks

NOTICE = (
    "Research software, not a medical device. The figures below say how three nets compare on this data "
    "under this recipe; they say nothing about use on patients."
)


def write_report(out: Path, export: Path | None = None) -> dict[str, Any]:
    """Write the report in ``out`` anew from what is stored there; returns the object of its ``result.json``.

    ``export`` is a folder for ``reproduce-<data>.json``, ``.md`` and ``-*.svg``, which hold no image of the
    data and nothing drawn from one. Raises UsageError if there is no report, or no complete fold to
    export; DataError for damaged files, SinkError.
    """
    results = read_results(out)
    summary = summarise(results)
    claims = judge(summary)
    result = result_object(results, summary, claims)
    pictures = _pictures(results, summary, out)
    title = f"The paper's three nets on {results.data['name']}"
    blocks = compose(results, summary, claims, pictures)
    for picture in pictures:
        write_whole(out / "pictures" / picture.name, picture.data)
    write_text(out / "report.md", to_markdown(title, blocks, "pictures/"))
    write_text(out / "report.html", to_html(title, blocks))
    write_json(out / "result.json", result)
    if export is not None:
        _export(results, summary, claims, [p for p in pictures if not p.shows_data], export)
    return result


def _export(
    results: Results, summary: ReplicationSummary, claims: list[Claim], pictures: list[Picture], folder: Path
) -> None:
    if not results.complete:
        raise UsageError(
            "there is nothing to export yet: no fold is complete; run to the end of a fold first"
        )
    stem = "reproduce-" + re.sub(r"[^A-Za-z0-9.-]+", "-", str(results.data["name"])).strip(".-")
    named = [
        Picture(f"{stem}-{picture.name}", picture.data, picture.caption, picture.alt) for picture in pictures
    ]
    for picture in named:
        write_whole(folder / picture.name, picture.data)
    blocks = compose(results, summary, claims, named)
    write_text(
        folder / f"{stem}.md", to_markdown(f"The paper's three nets on {results.data['name']}", blocks)
    )
    write_json(folder / f"{stem}.json", result_object(results, summary, claims))


def compose(
    results: Results, summary: ReplicationSummary, claims: list[Claim], pictures: list[Picture]
) -> list[Block]:
    """The report's blocks in order. Figures without complete folds are left out, and the status says so."""
    nets = {net: read_architecture(net) for net in paper.NETS}
    checks = precision_checks(results.plan, results.trials) if results.chosen is not None else []
    drawn = {picture.name.rpartition("-")[2].partition(".")[0]: picture for picture in pictures}
    blocks: list[Block] = [
        Paragraph(NOTICE),
        Paragraph(status(results)),
        Heading("What differs from the paper"),
        Bullets(differences(results)),
        Heading("What replicates"),
        Paragraph(verdicts(claims)),
        tables.table_claims(claims),
    ]
    if results.complete:
        blocks += [Heading("To quote", 3), Paragraph(quotation(results, summary, claims))]
    blocks.append(Heading("Results"))
    if results.complete:
        blocks += [
            tables.table_2(results, summary),
            *_of(drawn, "dice"),
            tables.table_pairs(results, summary),
        ]
        blocks += [
            tables.table_4(results, summary),
            tables.table_arithmetic(results, summary),
            *_of(drawn, "loss"),
            *_of(drawn, "examples"),
        ]
        if summary.beside:
            blocks.append(tables.table_beside(results, summary))
        blocks += [tables.table_runs(results), Paragraph(collapses(results))]
    blocks += [
        Heading("The nets"),
        tables.table_1(nets),
        tables.table_3(nets),
        Heading("How it was done"),
        Bullets([*setting_words(results), *trial_words(results), *machine_words(results)]),
    ]
    if results.trials:
        blocks.append(tables.table_trials(results))
    if checks:
        blocks.append(tables.table_precision(checks))
    if results.settings["recipe"] == "paper":
        blocks.append(tables.table_open(results))
    blocks += [Heading("The data"), Bullets(data_words(results))]
    return [*blocks, Heading("What these figures cannot say"), Bullets(limits(results))]


def _of(pictures: Mapping[str, Picture], name: str) -> list[Block]:
    return [pictures[name]] if name in pictures else []


def _pictures(results: Results, summary: ReplicationSummary, out: Path) -> list[Picture]:
    if not results.complete:
        return []
    losses = ", ".join(
        f"{paper.TITLES[net]} {sum(found.final_loss) / len(found.final_loss):.4f}"
        for net, found in summary.nets.items()
    )
    return [
        Picture(
            "dice.svg",
            dice_figure(summary),
            "Dice of each net: mean over all held-back images with its interval, the mean of each fold, "
            "and what the paper reports for the competition's test images.",
            "Mean Dice of each net with its interval, beside the paper's values",
        ),
        Picture(
            "loss.svg",
            loss_figure(results),
            "Figure 7. Training loss against iterations: running mean over an epoch's steps; the line is "
            "the mean of the folds as far as all have come, the band reaches from the least to the largest, "
            f"and thin lines go on to the end of each fold. Mean of each fold's last epoch: {losses}. In the "
            "paper's figure, whose values are not in its text, the improved U-Net ends lowest.",
            "Training loss of each net falling over the iterations",
        ),
        Picture(
            "examples.png",
            example_figure(results, out),
            "Figure 6. Of each fold the held-back image with the median nerve area, chosen before any net "
            "was trained: the image, its mask (yellow), and what each net finds (filled; the mask dashed).",
            "Images, their masks, and the outlines that the nets find",
            shows_data=True,
        ),
    ]


def result_object(results: Results, summary: ReplicationSummary, claims: list[Claim]) -> dict[str, Any]:
    """All figures of a report as JSON, without images and paths."""
    value = {
        "format": FORMAT,
        "data": results.data,
        "settings": results.settings,
        "open_choices": results.open_choices,
        "complete_folds": [fold + 1 for fold in results.complete],
        "missing": [f"{net}-{fold + 1}" for net, fold in results.missing],
        "claims": [asdict(claim) for claim in claims],
        "nets": {net: asdict(figures) for net, figures in summary.nets.items()},
        "resampled": summary.resampled,
        "comparisons": [asdict(pair) for pair in summary.comparisons.values()],
        "turns": {net: asdict(figures) for net, figures in summary.turns.items()},
        "beside": {name: asdict(figures) for name, figures in summary.beside.items()},
        "beside_comparisons": [asdict(pair) for pair in summary.beside_comparisons],
        "trials": [_trial_object(found) for found in results.trials.values()],
        "chosen": None if results.chosen is None else asdict(results.chosen),
        "quotation": quotation(results, summary, claims) if results.complete else None,
        "paper": {"dice": paper.DICE, "parameters": paper.PARAMETERS, "minutes": paper.TRAINING_MINUTES},
        "runs": [_run_object(run) for run in results.runs.values()],
    }
    return dict(finite(value))


def _run_object(run: FoldResult) -> dict[str, Any]:
    """A run's figures by column, which is shorter than by row."""
    return {
        "net": run.net,
        "fold": run.fold + 1,
        "parameters": run.parameters,
        "train_images": run.train_images,
        "steps": len(run.losses),
        "seconds": run.seconds,
        "rate": run.rate,
        "precision": run.precision,
        "collapsed": run.collapsed,
        "machine": run.machine,
        "finished": run.finished,
        "epochs": {key: [epoch[key] for epoch in run.epochs] for key in ("loss", "dice", "seconds")},
        "images": {key: [image[key] for image in run.images] for key in ("name", "dice", "nerve", "found")},
    }


def _trial_object(found: TrialResult) -> dict[str, Any]:
    return {
        "net": found.net,
        "rate": found.rate,
        "precision": found.precision,
        "loss": found.loss,
        "dice": found.dice,
        "step_seconds": found.step_seconds,
        "epochs": {key: [epoch[key] for epoch in found.epochs] for key in ("loss", "dice", "seconds")},
    }


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--export", type=Path, default=None)
    options = parser.parse_args()
    try:
        write_report(options.report, options.export)
    except StreamsegError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
