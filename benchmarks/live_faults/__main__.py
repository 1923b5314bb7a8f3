"""The fault table: what a live display shows while things go wrong, and how soon it is back.

    python -m benchmarks.live_faults [--quick] [--only NAME ...] [--out DIR]

Every fault has a process of its own, one after the other: the live loop as the command runs it (budget
150 ms, reconnecting) on frames at 30 fps, an engine of 25 ms, and a display that remembers what could be
seen. After 1.5 s of outlines the fault begins, lasts as long as the table says, and ends. Sources are real:
an RTSP server, proxies that damage or rewrite what comes from it, and a V4L2 grabber emulated below the
system calls. Flicker suppression is off, since the disc that proves which frame an outline belongs to jumps
as no tissue does. A fault of the engine ends the run, with its cause. Where the image is a part of a
machine's screen, an outline counts as back in the image's own region only.

- displayed: the states, with the seconds since the fault began
- no outline for: the longest time without any outline, from the fault's beginning until the loop was back
- back after: from the end of the fault until an outline of a frame captured after it could be seen. A fault
  that stays does not end while it is observed: here the time counts from its beginning, or the stream's first
  frame, until the right state came that stayed for 2 s (outlines; for a slow source, that it is slow), and 0
  means that it was there at once
- lost: frames that the source made meanwhile (30 a second, if the fault names no other rate) and the loop did
  not get; not segmented: those that it got, but replaced by newer ones
- oldest outline: the greatest age, since its frame's capture, at which an outline was still seen; the limit
  is the age budget and what a display needs to take it off. What stands on a display that becomes slow
  stays until the first slow frame is up
- by its own clock: the same since the frame was made, from the number that it shows; what the network held
  back is in it, and no receiver can know that
- held up: the longest time for which this process could not run, though it wanted to: on a busy machine every
  other time may be longer by that
- on another frame: outlines that did not lie on the disc of the frame under them
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import parser, publish
from benchmarks.live_faults.account import state_words
from benchmarks.live_faults.kinds import FAULTS, Fault, prepared, run_one
from streamseg.benchmark.provenance import provenance
from streamseg.benchmark.python_process import run_python
from streamseg.core.errors import EngineError
from streamseg.reporting.formatting import table

LIMIT_S = 90.0
QUICK = (
    "server killed",
    "grabber unplugged",
    "engine slow (300 ms)",
    "menu over the screen",
    "time stamps stand still (stays)",
)


def main() -> int:
    """Command line."""
    made = parser(__doc__)
    made.add_argument(
        "--only", nargs="+", choices=[fault.name for fault in FAULTS], metavar="NAME", help="names of faults"
    )
    made.add_argument("--one", help="run this fault here and print what it did as JSON")
    made.add_argument("--folder", type=Path, help="with --one: where its device or disk is")
    options = made.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.folder)))
        return 0
    names = options.only or (QUICK if options.quick else [fault.name for fault in FAULTS])
    rows = {fault.name: in_process(fault) for fault in FAULTS if fault.name in names}
    result = {"what": "faults", **provenance(), "faults": rows}
    publish("faults", result, report(rows), options)
    return 0


def in_process(fault: Fault) -> dict[str, Any]:
    """One fault in a process of its own."""
    print(f"{fault.name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="streamseg-fault-") as name, prepared(fault, Path(name)) as ready:
        if ready.missing:
            return {"missing": ready.missing}
        call = ["-m", "benchmarks.live_faults", "--one", fault.name, "--folder", name]
        try:
            answer = run_python(call, limit_s=LIMIT_S, environment=ready.environment, wrap=ready.wrap)
        except EngineError as error:
            return {"missing": str(error)}
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def report(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The table."""
    head = (
        "fault",
        "lasts, s",
        "displayed",
        "no outline for, s",
        "back after, s",
        "frames lost / not segmented",
        "oldest outline, ms",
        "by its own clock, ms",
        "held up, ms",
        "on another frame",
    )
    cells = [(name, *row(one)) for name, one in rows.items()]
    why = {name: "; ".join([*one.get("reasons", ()), one.get("more", "")]) for name, one in rows.items()}
    told_why = [f"- {name}: {text.removesuffix('; ')}" for name, text in why.items() if text]
    return [*table(head, cells), "", "What the display said meanwhile:", "", *told_why]


def row(one: dict[str, Any]) -> tuple[str, ...]:
    """A fault's cells."""
    if "missing" in one:
        return ("", f"not run: {one['missing']}", *[""] * 7)
    back = one["recovered_s"]
    return (
        f"{one['lasted_s']:.1f}",
        state_words(one["states"]),
        f"{one['without_outline_s']:.2f}",
        _not_back(one) if back is None else f"{back:.2f}",
        f"{one['frames_lost']} / {one['frames_not_segmented']}",
        number(one["oldest_outline_ms"]),
        number(one["oldest_outline_by_its_own_clock_ms"]),
        number(one["held_up_ms"]),
        f"{one['outlines_on_another_frame']} of {one['outlines']}",
    )


def _not_back(one: dict[str, Any]) -> str:
    return "the run ends" if "the run ended" in one["more"] else "not while it was observed"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
