"""Writes the report of a replication from its stored results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamseg.reproduction import paper
from streamseg.reproduction.claims import judge
from streamseg.reproduction.files import write_json
from streamseg.reproduction.plan import FORMAT
from streamseg.reproduction.results import Results, read_results
from streamseg.reproduction.summary import Summary, summarise


def write_report(out: Path, export: Path | None = None) -> dict[str, Any]:
    """Write the report in ``out`` anew from what is stored there; returns the object of ``result.json``."""
    results = read_results(out)
    summary = summarise(results)
    result = result_object(results, summary)
    write_json(out / "result.json", result)
    return result


def result_object(results: Results, summary: Summary) -> dict[str, Any]:
    """All figures of a report as JSON. Holds no pictures and no paths."""
    missing = [f"{net}-{fold + 1}" for net, fold in results.missing]
    value = {
        "format": FORMAT,
        "data": results.data,
        "settings": results.settings,
        "open_choices": results.open_choices,
        "complete_folds": [fold + 1 for fold in results.complete],
        "missing": missing,
        "claims": [asdict(claim) for claim in judge(summary)],
        "nets": {net: asdict(figures) for net, figures in summary.nets.items()},
        "comparisons": [asdict(pair) for pair in summary.comparisons.values()],
        "paper": {"dice": paper.DICE, "parameters": paper.PARAMETERS, "minutes": paper.TRAINING_MINUTES},
        "runs": [
            {
                "net": run.net,
                "fold": run.fold + 1,
                "parameters": run.parameters,
                "train_images": run.train_images,
                "machine": run.machine,
                "finished": run.finished,
                "epochs": run.epochs,
                "images": run.images,
            }
            for run in results.runs.values()
        ],
    }
    return dict(_finite(value))


def _finite(value: Any) -> Any:
    """As strict JSON holds it: what is not a number becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
