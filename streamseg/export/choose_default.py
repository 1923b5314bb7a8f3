"""Says which of two nets' INT8 engines should be the default engine, by the rule that the model card states.

    python -m streamseg.export.choose_default --other kaggle-positives --without CLIP... [--today ENGINE]

The score of an engine is the mean of two nerve Dice: that on the held-back images of its own machine, which
its manifest states, and that on images of other machines (``--other``), measured here. The default is the
engine with the best score among those that take no more time per frame than today's default; unless the other
one leads by LEAD or more it is the improved U-Net. ``--without`` names recordings without nerve: the share of
their frames with an outline is printed and decides nothing. Frames are taken whole; a screen around the image
is not looked for. ``--today`` is the engine that times are compared with, for example one in another
checkout; by default that of this checkout.

The result is a proposal: ``DEFAULT_NET`` in ``streamseg/backends/loading.py`` is the place that decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from streamseg.backends import load_backend
from streamseg.backends.loading import shipped_engine
from streamseg.capture import open_source
from streamseg.core.errors import UsageError
from streamseg.core.types import Backend
from streamseg.datasets import open_dataset
from streamseg.engines.manifest import read_manifest
from streamseg.evaluation.dataset import confusions
from streamseg.export.gate import compare_speed
from streamseg.segmentation.segmenter import Segmenter

PREFERRED = "improved_unet"
"""The net whose engine is the default in doubt."""
CANDIDATES = (PREFERRED, "lite_unet")
LEAD = 0.02
"""Lead in the score, in Dice, below which there is doubt: half the standard error of a mean of 41 images."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine and what the rule asks of it."""

    net: str
    own: float
    """Mean nerve Dice, 0..1, on the held-back images of its own machine."""
    other: float
    """Mean nerve Dice, 0..1, on images of other machines."""
    outlined: float | None
    """Share of frames without nerve that have an outline, 0..1; None if none were given."""
    ratio: tuple[float, float, float]
    """Its time per frame divided by today's default's: median, and the ends of the 95 % interval."""

    @property
    def score(self) -> float:
        """The mean of both Dice."""
        return (self.own + self.other) / 2

    @property
    def affordable(self) -> bool:
        """Whether it takes no more time than today's default, as far as the interval tells."""
        return self.ratio[1] <= 1


def choose(candidates: Sequence[Candidate]) -> tuple[str, str]:
    """The net whose engine should be the default, and the reason in words, by the rule of this module."""
    within = [one for one in candidates if one.affordable]
    if not within:
        return PREFERRED, "no engine is within the cost of today's default"
    best = max(within, key=lambda one: (one.score, one.net == PREFERRED))
    if best.net == PREFERRED:
        return PREFERRED, "it has the best score within the cost of today's default"
    preferred = next((one for one in within if one.net == PREFERRED), None)
    if preferred is None:
        return best.net, f"{PREFERRED} is not within the cost of today's default"
    lead = best.score - preferred.score
    if lead < LEAD:
        return PREFERRED, f"{best.net} leads by {lead:.3f}, which is less than {LEAD}"
    return best.net, f"it leads by {lead:.3f} within the cost of today's default"


def measure(
    net: str, folder: Path, today: Backend, other: Sequence[Path], without: Sequence[str]
) -> Candidate:
    """Measure an engine for the rule. Raises EngineError, UsageError, DataError and SourceError."""
    figures = read_manifest(folder)[0].accuracy.get("int8", {}).get("validation")
    if not figures:
        raise UsageError(
            f"engine {folder} states no Dice on held-back images; make it with 'python -m "
            "streamseg.export.defaults'"
        )
    backend = load_backend(folder)
    try:
        labelled = Segmenter(backend, None, withhold=False)
        dice = [count.dice for data in other for _, count in confusions(open_dataset(data), labelled)]
        found: list[bool] = []
        for uri in without:
            segmenter = Segmenter(backend)
            with open_source(uri) as source:
                found += [segmenter.segment(frame).area_px > 0 for frame in source]
        ratio = compare_speed(backend, today)
    finally:
        backend.close()
    outlined = fmean(found) if found else None
    return Candidate(net, figures["dice_mean"], fmean(dice), outlined, ratio)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, nargs="+", required=True, help="images of other machines")
    parser.add_argument("--without", nargs="*", default=[], help="recordings without nerve")
    parser.add_argument(
        "--today", help="the engine that times are compared with; default: the default engine"
    )
    options = parser.parse_args(arguments)
    today = load_backend(options.today)
    try:
        found = [
            measure(net, shipped_engine(net), today, options.other, options.without) for net in CANDIDATES
        ]
    finally:
        today.close()
    print(f"{'':14}{'own':>7}{'other':>7}{'score':>7}{'outlined':>10}  time, of {today.name}")
    for one in found:
        outlined = "-" if one.outlined is None else f"{one.outlined:.1%}"
        ratio, low, high = one.ratio
        print(
            f"{one.net:14}{one.own:7.3f}{one.other:7.3f}{one.score:7.3f}{outlined:>10}"
            f"  {ratio:.2f} ({low:.2f} to {high:.2f})"
        )
    net, why = choose(found)
    print(f"default: {net}: {why}")


if __name__ == "__main__":
    main()
