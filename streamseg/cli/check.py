"""``streamseg check``: reads a whole data set once and reports its contents and its bad files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, put, say, stop_on_signals
from streamseg.cli.options import JsonOption
from streamseg.reporting.formatting import counted

if TYPE_CHECKING:
    from streamseg.core.types import Grey
    from streamseg.datasets import Dataset, Sample

LISTED = 10
"""Groups of near-identical images, and names in each, that are listed without --json."""


def check(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder with images/ and masks/, or in Kaggle's or nnU-Net's layout."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check a data set: bad files, near-identical images.

    Reads every file. Images that are near-identical must not be split between training and validation; those
    whose masks contradict each other are listed. The exit code is 1 if there are bad files.
    """
    from streamseg.datasets.reader import survey

    samples, problems = survey(data)
    found, bad = DatasetReport(), list(problems)
    with stop_on_signals() as stop, Progress(data.resolve().name, len(samples), "images") as progress:
        for index in range(len(samples)):
            found.read(samples, index, bad)
            progress.advance()
            if stop:
                break
    if stop:
        say(f"stopped by {stop.cause}; no report of a part")
        raise typer.Exit(stop.exit_code)
    report = {"data": str(data), **found.report(), "bad_files": bad}
    if as_json:
        print_json(report)
    else:
        _print_lines(report)
    if bad or not found.names:
        say(f"{counted(len(bad), 'bad file')} in {data}" if bad else f"data set {data} holds no images")
        raise typer.Exit(1)


class DatasetReport:
    """The contents of a data set's good samples."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.subjects: set[str] = set()
        self.sizes: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.images: list[Grey] = []
        self.masks: list[Grey] = []

    def read(self, samples: Dataset, index: int, bad: list[str]) -> None:
        """Read one sample; an error is added to ``bad``."""
        from streamseg.core.errors import DataError

        try:
            sample = samples[index]
        except DataError as error:
            bad.append(str(error))
            return
        subject = samples.entries[index].subject
        if subject is not None:
            self.subjects.add(subject)
        self.add(sample)

    def add(self, sample: Sample) -> None:
        from streamseg.datasets.near_duplicates import reduced

        self.names.append(sample.name)
        self.sizes[f"{sample.image.shape[1]}x{sample.image.shape[0]}"] += 1
        self.seen["nerve" if sample.nerve.any() else "no nerve"] += 1
        if sample.vessel is not None and sample.vessel.any():
            self.seen["vessel"] += 1
        image, mask = reduced(sample.image, sample.nerve)
        self.images.append(image)
        self.masks.append(mask)

    def report(self) -> dict[str, Any]:
        """Counts, and the names of near-identical and of contradicting images."""
        import numpy as np

        from streamseg.datasets.near_duplicates import HEIGHT, WIDTH, find_near_duplicates

        shape = (len(self.names), HEIGHT, WIDTH)
        found = find_near_duplicates(
            np.array(self.images, np.uint8).reshape(shape), np.array(self.masks, np.uint8).reshape(shape)
        )
        return {
            "images": len(self.names),
            "subjects": len(self.subjects) or None,
            "sizes": dict(self.sizes.most_common()),
            "with_nerve": self.seen["nerve"],
            "without_nerve": self.seen["no nerve"],
            "with_vessel": self.seen["vessel"],
            "near_identical": [[self.names[row] for row in group] for group in found.groups],
            "contradictions": [[self.names[row] for row in pair] for pair in found.contradictions],
        }


def _print_lines(report: dict[str, Any]) -> None:
    for key, value in report.items():
        title = key.replace("_", " ") + ":"
        if key in ("near_identical", "contradictions"):
            images = counted(len({name for names in value for name in names}), "image")
            what = "pair" if key == "contradictions" else "group"
            put(f"{title:<16}{images} in {counted(len(value), what)}")
            for names in value[:LISTED]:
                put(f"  {', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''}")
            if len(value) > LISTED:
                put(f"  and {len(value) - LISTED} more; --json lists all")
        elif key == "bad_files":
            put(f"{title:<16}{len(value)}")
            for line in value:
                put(f"  {line}")
        elif isinstance(value, dict):
            put(f"{title:<16}{', '.join(f'{size} ({count})' for size, count in value.items())}")
        else:
            put(f"{title:<16}{'unknown' if value is None else value}")
