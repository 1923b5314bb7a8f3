"""Measures the age of the display: by the stream's own clock, by stages, and against a plain OpenCV loop.

    python -m benchmarks.live_age [--quick] [--fps 30 60] [--rounds R] [--seconds S] [--no-page] [--out DIR]

Regime: everything on one machine, which has one monotonic clock. A sender process draws the time into each
frame (640x480, a phantom) as a bar code right before handing it to a real RTSP server (GStreamer, x264
zerolatency, TCP). A receiver process reads the bar code back from the frame that was displayed:

    true age = when the frame was displayed - when the sender drew it

The display's own age (HUD) counts from the arrival of the frame's first packet and includes decoding. So

    transport = arrival of the first packet - when the sender drew the frame

is what the display cannot know: the pipe to the server, its encoder and the network. It is measured in the
same run by a receiver without an engine, and its median is subtracted. What remains must agree with the HUD,
which comes from another process and another phase, within one frame interval. That the transport takes longer
while an engine keeps the machine busy shows in the difference. ``decoded`` is the age at which that receiver
has the frame: encoder, network and decoder.

The plain loop is ``cv2.VideoCapture(url)``, the same engine and the overlay drawn, in a process of its own,
in turns with ours on the same stream; ours draws the same overlay, and both ages end when it is drawn. Where
the engine is slower than the stream, the plain loop's age grows for as long as it runs: its figures then
depend on ``--seconds``. The window is full-screen at 1920x1080 under Xvfb; the page is in Chromium, and
measures its own ages.

From memory, frames come at 30, 60 and 120 fps through the source that paces recordings; age counts from
when a frame was due. The first seconds of each block are left out everywhere.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import (
    MemorySource,
    OutlineObserver,
    images_of_phantom,
    live_segmenter,
    parser,
    percentiles,
    publish,
    run_loop,
    spread,
)
from benchmarks.live_age.sender import sending
from benchmarks.live_age.worker import BUDGET_S, OverlayDisplay, counts
from streamseg.backends import load_backend
from streamseg.benchmark.provenance import provenance
from streamseg.benchmark.python_process import run_python
from streamseg.benchmark.rotation import Rotation, reraise
from streamseg.capture.paced import PacedSource
from streamseg.core.types import Grey, Source
from streamseg.reporting.formatting import table
from streamseg.segmentation.segmenter import Segmenter

PHANTOM_FPS = (30.0, 60.0, 120.0)
PHANTOM_WARM_S = 1.0
LIMIT_S = 120.0
"""A process that takes this much longer than it watches has failed."""
NAMES = ("p50_ms", "p95_ms", "p99_ms")

Seen = dict[str, list[dict[str, Any]]]
"""What each way of watching saw, one entry per round."""


def main() -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--fps", type=int, nargs="*", default=[30, 60])
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=6.0, help="length of a block after its first seconds")
    made.add_argument("--no-page", action="store_true", help="leave out the browser")
    options = made.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.fps = 1, 3.0, options.fps[:1]
    backend = load_backend()
    memory = from_memory(live_segmenter(backend), options.seconds)
    streams = {str(fps): stream(watch(fps, options), fps) for fps in options.fps}
    result = {
        "what": "age of what is displayed",
        **provenance(backend),
        "rounds": options.rounds,
        "block_seconds": options.seconds,
        "memory": memory,
        "rtsp": streams,
    }
    publish("age", result, report(result), options)


def from_memory(segmenter: Segmenter, seconds: float) -> dict[str, Any]:
    """Ages and stages without any transport, by rate."""
    images = images_of_phantom(120, 60.0)
    found = {}
    for fps in PHANTOM_FPS:
        display, observer = OverlayDisplay(), OutlineObserver()
        began_ns = time.monotonic_ns()
        run = run_loop(
            partial(paced, images, fps),
            segmenter,
            seconds=PHANTOM_WARM_S + seconds,
            displays=[display],
            observers=[observer],
            age_budget_s=BUDGET_S,
        )
        ages = [
            shown - captured
            for shown, captured in zip(observer.shown_ns, observer.captured_ns, strict=True)
            if shown - began_ns > PHANTOM_WARM_S * 1e9
        ]
        found[f"{fps:g}"] = {"age": percentiles(ages), "draw": percentiles(display.drawing_ns), **counts(run)}
    return found


def paced(images: Sequence[Grey], fps: float) -> Source:
    """Pictures from memory at their own times."""
    return PacedSource(MemorySource(images, fps))


def watch(fps: int, options: argparse.Namespace) -> Seen:
    """Watch one stream in every way, in turns."""
    ways = ["transport", "loop", "plain"]
    ways += ["window"] if shutil.which("Xvfb") else []
    ways += [] if options.no_page or not shutil.which("chromium") else ["page"]
    rotation: Rotation[dict[str, Any]] = Rotation(ways, on_failure=reraise)
    with sending(fps) as url:
        rotation.run(lambda way: worker(way, url, options.seconds), options.rounds)
    return rotation.results


def worker(way: str, url: str, seconds: float) -> dict[str, Any]:
    """What one way saw in one block."""
    answer = run_python(
        ["-m", "benchmarks.live_age.worker", way, url, str(seconds)], limit_s=seconds + LIMIT_S
    )
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def stream(seen: Seen, fps: int) -> dict[str, Any]:
    """The figures of one stream."""
    transport = {name: together(seen["transport"], name) for name in ("first_packet", "decoded")}
    found: dict[str, Any] = {
        "transport": {name: percentiles(ages) for name, ages in transport.items()},
        "unreadable": {way: sum(one["unreadable"] for one in rounds) for way, rounds in seen.items()},
        "stages": {way: rounds[-1]["stages"] for way, rounds in seen.items() if "stages" in rounds[-1]},
        "true": {
            way: percentiles(together(rounds, "true")) for way, rounds in seen.items() if way != "transport"
        },
        "segmented_fps": {
            way: spread([len(one["true"]) / one["block_seconds"] for one in rounds])
            for way, rounds in seen.items()
            if way not in ("transport", "page")
        },
        "agreement": {
            way: agreement(
                together(seen[way], "true"), together(seen[way], "hud"), transport["first_packet"], fps
            )
            for way in ("loop", "window")
            if way in seen
        },
        "ours_to_plain": against(seen["loop"], seen["plain"]),
        "plain_growth_ms": [growth(one) for one in seen["plain"]],
    }
    if "page" in seen:
        found["page_own_ages"] = percentiles(together(seen["page"], "page"))
    return found


def together(rounds: Sequence[dict[str, Any]], name: str) -> list[int]:
    """The ages of all rounds."""
    return [age for one in rounds for age in one[name]]


def agreement(true: Sequence[int], hud: Sequence[int], transport: Sequence[int], fps: int) -> dict[str, Any]:
    """True age less the transport's median, against the HUD's age, milliseconds."""
    usual_ms = float(np.median(transport)) / 1e6 if transport else float("nan")
    by_code, by_hud = percentiles(true), percentiles(hud)
    rest = {name: by_code[name] - usual_ms for name in NAMES}
    difference = {name: rest[name] - by_hud[name] for name in NAMES}
    return {
        "true_ms": by_code,
        "transport_ms": usual_ms,
        "rest_ms": rest,
        "hud_ms": by_hud,
        "difference_ms": difference,
        "within_one_frame": {name: abs(value) <= 1e3 / fps for name, value in difference.items()},
    }


def against(ours: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Our true age by the plain loop's, within each round."""
    pairs = [(percentiles(a["true"]), percentiles(b["true"])) for a, b in zip(ours, plain, strict=True)]
    return {name: spread([a[name] / b[name] for a, b in pairs]) for name in NAMES}


def growth(one: dict[str, Any]) -> float:
    """Milliseconds by which a plain loop's age grew from the first third of a block to the last."""
    ages = one["true"]
    third = max(1, len(ages) // 3)
    return float(np.median(ages[-third:]) - np.median(ages[:third])) / 1e6 if ages else float("nan")


def report(result: dict[str, Any]) -> list[str]:
    """The tables."""
    lines = ["Pictures from memory: age at display and its parts, milliseconds (p50 / p95 / p99)", ""]
    stages = ("wait", "preprocess", "infer", "postprocess")
    rows = [
        (
            f"{fps} fps",
            three(one["age"]),
            *(listed(one["stages"][name]) for name in stages),
            three(one["draw"]),
        )
        for fps, one in result["memory"].items()
    ]
    lines += [*table(("source", "age", *stages, "draw"), rows), ""]
    for fps, found in result["rtsp"].items():
        lines += stream_report(fps, found)
    return lines[:-1]


def stream_report(fps: str, found: dict[str, Any]) -> list[str]:
    """The tables of one stream."""
    lines = [f"RTSP at {fps} fps: true age at display, milliseconds", ""]
    named = {
        "transport": found["transport"]["first_packet"],
        "transport, decoded": found["transport"]["decoded"],
        "live loop": found["true"]["loop"],
        "plain OpenCV loop": found["true"]["plain"],
        "window": found["true"].get("window"),
        "page, by its own clock, from arrival": found.get("page_own_ages"),
    }
    rows = [(name, *(one[key] for key in (*NAMES, "max_ms"))) for name, one in named.items() if one]
    lines += [*table(("", "p50", "p95", "p99", "max"), rows), ""]
    ratios = found["ours_to_plain"]
    lines += [
        "Live loop / plain loop, within a round (median, least to most): "
        + "; ".join(
            f"{name[:3]} {v['median']:.2f} ({v['min']:.2f} to {v['max']:.2f})" for name, v in ratios.items()
        ),
        "The plain loop's age grew within a block by, ms: "
        + ", ".join(f"{value:.0f}" for value in found["plain_growth_ms"]),
        "",
    ]
    rows = []
    for way, one in found["agreement"].items():
        for name in NAMES:
            cells = [one["true_ms"][name], one["transport_ms"], one["rest_ms"][name], one["hud_ms"][name]]
            kept = "yes" if one["within_one_frame"][name] else "NO"
            rows.append((f"{way}, {name[:3]}", *cells, one["difference_ms"][name], kept))
    head = ("", "true age", "transport (median)", "rest", "HUD", "difference", "within one frame")
    return [*lines, *table(head, rows), ""]


def three(one: dict[str, float]) -> str:
    """``p50 / p95 / p99``."""
    return listed([one[name] for name in NAMES])


def listed(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    main()
