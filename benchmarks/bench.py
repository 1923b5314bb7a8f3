"""Runs the benchmarks behind the README's tables, one after another: ``make bench``.

    python -m benchmarks.bench [--source CLIP] [--data DIR] [--weights RUN] [--only nets ...] [--out FOLDER]
                               [--readme]

Calls ``streamseg bench nets``, ``peers``, ``pipeline`` and ``streams`` one after another, each in a process
of its own, so that none affects the next. Each has a time limit (``--within``), so that all end within 10
minutes on any machine: on a slow one there are fewer rounds, and what finds no time is left out. Writes
``<date>-<machine>-bench-<name>.json`` for each and ``<date>-<machine>-bench.html`` and ``.md`` of all of
them. ``--readme`` then updates the README's tables. A benchmark that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from streamseg.benchmark.provenance import ROOT, machine_name

ROUNDS = {
    "peers": ["--rounds", "3"],
    "pipeline": ["--rounds", "3", "--seconds", "4"],
    "streams": ["--rounds", "3", "--seconds", "4"],
}
"""So that all of it takes about 500 s on two cores."""
SECONDS = {"nets": 265.0, "peers": 115.0, "pipeline": 65.0, "streams": 75.0}
"""Time limit of each."""
LATE_S = 25.0
"""Steps that have begun may end so much later, in all, before the following benchmarks get less; what then
remains of 10 minutes is for the last one and for the report."""
BENCHES = ("nets", "peers", "pipeline", "streams")
CLIPS = ROOT.parent / "shared/data/clips"
LABELLED = ROOT.parent / "shared/data/usgra-seg"
HELD_BACK = "0.2"
"""The improved U-Net has not learnt from the last fifth of the labelled images; rows of weights that have say
so, and have no Dice."""


def main(arguments: Sequence[str] | None = None, clock: Callable[[], float] = time.monotonic) -> int:
    """Command line; 1 if a benchmark failed. ``clock`` gives seconds."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = f"{options.date}-{machine_name()}-bench"
    failed = []
    until = clock() + LATE_S + sum(SECONDS[bench] for bench in options.only)
    for number, bench in enumerate(options.only):
        path = options.out / f"{stem}-{bench}.json"
        began = clock()
        within = [] if options.quick else ["--within", f"{seconds(options.only[number:], until - began):.0f}"]
        code = streamseg("bench", bench, *settings(bench, options), *within, "--json", str(path))
        print(f"{bench}: {clock() - began:.0f} s", file=sys.stderr)
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
    parser.add_argument(
        "--weights",
        type=Path,
        action="append",
        default=[],
        help="trained weights or run folder of a net whose weights do not ship",
    )
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES)
    parser.add_argument("--quick", action="store_true", help="quick runs, not for publishing")
    parser.add_argument("--readme", action="store_true", help="update the README's tables")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="in the results' names")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def seconds(benches: Sequence[str], left_s: float) -> float:
    """Time limit of the first of these benchmarks: its usual one, or less if those before were late."""
    usual = SECONDS[benches[0]]
    return max(1.0, usual * min(1.0, left_s / sum(SECONDS[bench] for bench in benches)))


def settings(bench: str, options: argparse.Namespace) -> list[str]:
    """The options of one benchmark's command."""
    found = ["--quick"] if options.quick else list(ROUNDS.get(bench, ()))
    if options.source is not None:
        found += ["--source", str(options.source)]
    if options.data is not None and bench == "nets":
        found += ["--data", str(options.data), "--last", HELD_BACK]
    if bench == "nets":
        for weights in options.weights:
            found += ["--weights", str(weights)]
    return found


def streamseg(*arguments: str) -> int:
    """Exit code of the program, called with these arguments."""
    print(f"streamseg {' '.join(arguments)}", file=sys.stderr, flush=True)
    return run("-m", "streamseg", *arguments)


def run(*arguments: str) -> int:
    """Exit code of this Python with these arguments, from the repository's root."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
