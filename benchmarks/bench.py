"""All that the README's benchmark tables are made from, in one go: ``make bench``.

    python -m benchmarks.bench [--source CLIP] [--data DIR] [--only nets ...] [--out FOLDER] [--readme]

Calls ``streamseg bench nets``, ``peers``, ``pipeline`` and ``streams`` one after another, each in a process
of its own, so that none affects the next; under 10 minutes on two cores without a
GPU. Where the nets take long, the others get fewer or shorter rounds (:func:`limited`), three at
least and of everything; each result's ``regime`` says which it had. Writes
``<date>-<machine>-bench-<name>.json`` for each and ``<date>-<machine>-bench.html`` and ``.md`` of all of
them. ``--readme`` then writes the README's tables anew. One that fails leaves the others' results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamseg.benchmark.provenance import ROOT, machine_name

TOTAL_S = 530.0
"""Of two cores, and of ones that are half as slow again as far as shorter rounds allow it."""
NETS_S = 261.0
"""What the nets take if all others can have their full time."""
PEERS_S: Mapping[int, float] = {5: 128.0, 3: 110.0}
"""What peers take there, by rounds."""
PACED_S = {"pipeline": 6.0, "streams": 5.0}
"""Of each mode or number of streams in each round, if there is time for it."""
BLOCKS = 12
"""Three rounds of four modes, or of four numbers of streams."""
FIXED_S = {"pipeline": 18.0, "streams": 27.0, "report": 12.0}
"""What is not rounds: starting, loading, warm-up, limits."""
MIN_BLOCK_S = 1.5
"""Of a block: 45 frames at 30 per second, in three rounds."""
ENOUGH = 0.8
"""Share of their full blocks that pipeline and streams are to have before peers get five rounds."""
BENCHES = ("nets", "peers", "pipeline", "streams")
CLIPS = ROOT.parent / "shared/data/clips"
LABELLED = ROOT.parent / "shared/data/usgra-seg"
HELD_BACK = "0.2"
"""The default weights have not learnt from the last fifth of the labelled images."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if a benchmark failed."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = f"{options.date}-{machine_name()}-bench"
    failed = []
    spent = Spent()
    for bench in options.only:
        path = options.out / f"{stem}-{bench}.json"
        began = time.monotonic()
        shorter = [] if options.quick else limited(bench, spent)
        code = streamseg("bench", bench, *settings(bench, options), *shorter, "--json", str(path))
        spent.add(bench, time.monotonic() - began)
        print(
            f"{bench}: {spent.by[bench]:.0f} s, {spent.all:.0f} s of {TOTAL_S:.0f} s in all", file=sys.stderr
        )
        if code:
            failed.append(bench)
    there = [path for bench in BENCHES if (path := options.out / f"{stem}-{bench}.json").is_file()]
    if there and streamseg("bench", "report", *map(str, there), "--out", str(options.out / f"{stem}.html")):
        failed.append("report")
    if options.readme and not failed:
        failed += ["readme"] * bool(run("-m", "benchmarks.readme"))
    if failed:
        print(f"error: failed: {', '.join(failed)}; the messages are above", file=sys.stderr)
    return int(bool(failed))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    clips = sorted(CLIPS.glob("*.mp4"), key=lambda path: path.stat().st_size)
    parser.add_argument("--source", type=Path, default=clips[-1] if clips else None, help="recorded clip")
    parser.add_argument("--data", type=Path, default=LABELLED if LABELLED.is_dir() else None)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES)
    parser.add_argument("--quick", action="store_true", help="a first look; no figures to publish")
    parser.add_argument("--readme", action="store_true", help="write the README's tables anew")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="in the results' names")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def settings(bench: str, options: argparse.Namespace) -> list[str]:
    """The options of one benchmark's command."""
    found = ["--quick"] if options.quick else []
    if options.source is not None:
        found += ["--source", str(options.source)]
    if options.data is not None and bench == "nets":
        found += ["--data", str(options.data), "--last", HELD_BACK]
    return found


def streamseg(*arguments: str) -> int:
    """Exit code of the program, called with these arguments."""
    print(f"streamseg {' '.join(arguments)}", file=sys.stderr, flush=True)
    return run("-m", "streamseg", *arguments)


def run(*arguments: str) -> int:
    """Exit code of this Python with these arguments, from the repository's root."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


@dataclass(slots=True)
class Spent:
    """Seconds that the parts took so far."""

    by: dict[str, float] = field(default_factory=dict)

    @property
    def all(self) -> float:
        """Of all parts."""
        return sum(self.by.values())

    @property
    def slowness(self) -> float:
        """How many times :data:`NETS_S` the nets took; 1 while that is not known."""
        return max(0.5, self.by.get("nets", NETS_S) / NETS_S)

    def add(self, bench: str, seconds: float) -> None:
        """A part is done."""
        self.by[bench] = seconds


def limited(bench: str, spent: Spent) -> list[str]:
    """Options that make a part short enough; none if there is time for all of it, or it has no such
    options."""
    if bench == "peers":
        whole = share_of_blocks(spent, spent.slowness * PEERS_S[5]) >= ENOUGH
        return [] if whole else ["--rounds", "3"]
    if bench in PACED_S:
        share = share_of_blocks(spent)
        seconds = max(MIN_BLOCK_S, round(2 * share * PACED_S[bench]) / 2)
        return [] if seconds >= PACED_S[bench] else ["--rounds", "3", "--seconds", f"{seconds:g}"]
    return []


def share_of_blocks(spent: Spent, before: float = 0.0) -> float:
    """What share of their full blocks the parts still to come have time for, once ``before`` is spent."""
    coming = {name: full for name, full in PACED_S.items() if name not in spent.by}
    fixed = spent.slowness * (FIXED_S["report"] + sum(FIXED_S[name] for name in coming))
    left = TOTAL_S - spent.all - before - fixed
    return min(1.0, max(0.0, left / (BLOCKS * sum(coming.values())))) if coming else 1.0


if __name__ == "__main__":
    sys.exit(main())
