"""Measures how old a view is when an OpenIGTLink viewer has received it, with a slow viewer beside it.

    python -m benchmarks.live_igtl [--quick] [--seconds S] [--rate BYTES_PER_S] [--out DIR]

Regime: views of a phantom (640x480 grey, with outline) are given to the server 30 times a second; the viewers
run in a process of their own and read over the loopback interface. ``alone``: one viewer that reads at once.
``beside a slow one``: the same viewer, and another that reads ``--rate`` bytes a second, fewer than are sent.

An age is the time from the call of ``show`` until the viewer has a whole message: of the image, and of the
outline, which comes after it. The slow viewer's are ages at which it has read a message; what it reads late
lay in buffers of the system, which no server can take back. ``show`` is how long the loop was held up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from benchmarks.common import HEIGHT, WIDTH, parser, percentiles, publish
from streamseg.benchmark.provenance import ROOT, provenance
from streamseg.core.types import Frame, Roi, Segmentation, State
from streamseg.core.view import View
from streamseg.openigtlink import OpenIGTLinkDisplay
from streamseg.phantom import PhantomVideo
from tests.openigtlink.viewer import Viewer

FPS = 30.0
SLOW_BYTES_PER_S = 2_000_000
KINDS = {"Ultrasound": "image", "nerve": "outline"}


def main() -> None:
    """Measure and publish; as ``--viewers`` be the viewers' process."""
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    made.add_argument("--rate", type=int, default=SLOW_BYTES_PER_S, help="bytes a second of the slow viewer")
    made.add_argument("--viewers", metavar="PORT,RATE,...", help="read, and print ages; measures nothing")
    options = made.parse_args()
    if options.viewers:
        port, *rates = map(int, options.viewers.split(","))
        print(json.dumps(read_all(port, rates)))
        return
    options.seconds = 3.0 if options.quick else options.seconds
    runs = {
        "alone": run([0], options),
        "beside a slow one": run([0, options.rate], options),
    }
    result = {
        "what": "age of views at OpenIGTLink viewers",
        **provenance(),
        "fps": FPS,
        "seconds": options.seconds,
        "picture": [HEIGHT, WIDTH],
        "slow_bytes_per_s": options.rate,
        "runs": runs,
    }
    publish("igtl", result, report(runs), options)


def run(rates: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """Serve for the given time; what each viewer, and the caller of ``show``, measured."""
    views = [view_of(number) for number in range(60)]
    display = OpenIGTLinkDisplay(port=0)
    command = [sys.executable, "-m", "benchmarks.live_igtl", "--viewers"]
    with subprocess.Popen(
        [*command, ",".join(map(str, [display.port, *rates]))], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            while display.viewers < len(rates):
                time.sleep(0.01)
            held_ns = feed(display, views, options.seconds)
        finally:
            display.close()
        out, _ = process.communicate(timeout=60)
    return {"show": percentiles(held_ns), "viewers": json.loads(out)}


def feed(display: OpenIGTLinkDisplay, views: list[View], seconds: float) -> list[int]:
    """Show views at their rate; how long each call took."""
    held_ns: list[int] = []
    began = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        number = len(held_ns)
        shown_ns = time.monotonic_ns()
        view = views[number % len(views)]
        assert view.frame is not None
        frame = replace(view.frame, index=number, captured_ns=shown_ns)
        display.show(
            replace(view, number=number + 1, at_ns=shown_ns, frame=frame, expires_ns=shown_ns + 150_000_000)
        )
        held_ns.append(time.monotonic_ns() - shown_ns)
        time.sleep(max(0.0, began + (number + 1) / FPS - now))
    return held_ns


def view_of(number: int) -> View:
    """A view of the phantom with its true nerve."""
    still = _video().frame(number)
    found, _ = cv2.findContours(still.nerve.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contours = tuple(np.asarray(contour[:, 0], np.int32) for contour in found)
    frame = Frame(still.image, number, 0, spacing_mm=_video().spacing_mm)
    segmentation = Segmentation(still.nerve, contours, int(still.nerve.sum()), None, None, 0.9, State.NERVE)
    return View(number, 0, State.NERVE, "", frame, Roi(0, 0, WIDTH, HEIGHT), segmentation, 0)


_VIDEO: list[PhantomVideo] = []


def _video() -> PhantomVideo:
    if not _VIDEO:
        _VIDEO.append(PhantomVideo(3, height=HEIGHT, width=WIDTH, fps=FPS, nerve=True))
    return _VIDEO[0]


def read_all(port: int, rates: list[int]) -> list[dict[str, Any]]:
    """Read with several viewers at once, each at its rate (0: at once); ages by kind of message."""
    found: list[dict[str, Any]] = [{} for _ in rates]
    threads = [
        threading.Thread(target=read_one, args=(port, rate, found[place])) for place, rate in enumerate(rates)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def read_one(port: int, rate: int, found: dict[str, Any]) -> None:
    """Read until the server ends; fills in the ages."""
    ages: dict[str, list[int]] = {kind: [] for kind in KINDS.values()}
    read_bytes, began = 0, time.monotonic()
    with Viewer(port, receive_buffer=64 << 10 if rate else None) as viewer:
        try:
            while True:
                message = viewer.read()
                viewer.messages.clear()
                read_bytes += message.header.size
                if message.device in KINDS and not (message.device == "nerve" and message.empty):
                    ages[KINDS[message.device]].append(message.arrived_ns - message.header.sent_ns)
                if rate:
                    time.sleep(max(0.0, began + read_bytes / rate - time.monotonic()))
        except (EOFError, OSError):
            pass
    found |= {kind: percentiles(values) for kind, values in ages.items() if values}
    found["bytes_per_s"] = rate or None


def report(runs: dict[str, dict[str, Any]]) -> list[str]:
    """A table."""
    lines = ["| run | viewer | message | received | age p50 / p99 / worst, ms |", "|---|---|---|---|---|"]
    for name, found in runs.items():
        for viewer in found["viewers"]:
            who = "slow" if viewer["bytes_per_s"] else "quick"
            for kind in [kind for kind in KINDS.values() if kind in viewer]:
                ages = viewer[kind]
                times = " / ".join(f"{ages[key]:.1f}" for key in ("p50_ms", "p99_ms", "max_ms"))
                lines.append(f"| {name} | {who} | {kind} | {ages['count']} | {times} |")
        held = found["show"]
        times = " / ".join(f"{held[key]:.2f}" for key in ("p50_ms", "p99_ms", "max_ms"))
        lines.append(f"| {name} | - | `show` | {held['count']} | {times} |")
    return lines


if __name__ == "__main__":
    main()
