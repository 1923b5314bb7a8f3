"""One process of the age benchmark: watches a stream in one way for a while, and prints what it saw as JSON.

    python -m benchmarks.live_age.worker transport|loop|window|page|plain URL SECONDS

``true`` are ages by the frame's own bar code, from when it was handed to the encoder until it was on
display; ``hud`` are the same frames' ages as the display states them; all in nanoseconds, after the first
``WARM_S`` seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np

from benchmarks.common import REGION, MemoryDisplay, OutlineObserver, live_segmenter, run_loop, stamp_of
from streamseg.backends import load_backend
from streamseg.capture.rtsp.source import RtspSource
from streamseg.core.latency import Percentiles
from streamseg.core.types import Frame
from streamseg.core.view import Display, View
from streamseg.live import LiveReport
from streamseg.render.overlay import draw_overlay
from streamseg.segmentation.segmenter import Segmenter

WARM_S = 2.0
BUDGET_S = 1.0
"""Longer than any age here: what is measured is when outlines come, not that late ones are left out."""


class OverlayDisplay(MemoryDisplay):
    """Draws the outline over the frame, as a plain loop does, into memory."""

    def __init__(self) -> None:
        self.drawing_ns: list[int] = []

    def show(self, view: View) -> None:
        if view.frame is not None and view.segmentation is not None:
            began = time.monotonic_ns()
            draw_overlay(view.frame.image, view.segmentation)
            self.drawing_ns.append(time.monotonic_ns() - began)


def main() -> None:
    """Command line."""
    way, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if way == "transport":
        found = transport(url, seconds)
    elif way == "plain":
        found = plain(url, seconds)
    else:
        found = loop(url, seconds, way)
    print(json.dumps({**found, "block_seconds": seconds}))


def transport(url: str, seconds: float) -> dict[str, Any]:
    """The stream alone: from the encoder to the first packet, and to the decoded frame."""
    first: list[int] = []
    decoded: list[int] = []
    unreadable = 0
    with RtspSource(url) as source:
        began = time.monotonic()
        for frame in source:
            now_ns = time.monotonic_ns()
            if time.monotonic() - began > WARM_S + seconds:
                break
            stamp = stamp_of(frame.image)
            if stamp is None:
                unreadable += 1
            elif time.monotonic() - began > WARM_S:
                first.append(frame.captured_ns - stamp)
                decoded.append(now_ns - stamp)
    return {"first_packet": first, "decoded": decoded, "unreadable": unreadable}


def loop(url: str, seconds: float, way: str) -> dict[str, Any]:
    """The live loop, with the frame drawn into memory, the window, or a page in a browser."""
    observer = OutlineObserver()
    segmenter = live_segmenter(load_backend())
    began_ns = time.monotonic_ns()
    with ExitStack() as opened:
        display, finish = display_of(way, opened)
        report = run_loop(
            lambda: RtspSource(url),
            segmenter,
            seconds=WARM_S + seconds,
            displays=[display],
            observers=[observer],
            age_budget_s=BUDGET_S,
        )
        more = finish()
    true, hud, unreadable = [], [], 0
    for shown, captured, stamp in zip(
        observer.shown_ns, observer.captured_ns, observer.stamps_ns(), strict=True
    ):
        if shown - began_ns < WARM_S * 1e9:
            continue
        if stamp is None:
            unreadable += 1
            continue
        true.append(shown - stamp)
        hud.append(shown - captured)
    return {"true": true, "hud": hud, "unreadable": unreadable, **counts(report), **more}


def counts(report: LiveReport) -> dict[str, Any]:
    """What a run did, and its stages."""

    def numbers(times: Percentiles) -> list[float]:
        return [round(value, 3) for value in (times.p50_ms, times.p95_ms, times.p99_ms)]

    return {
        "offered": report.offered,
        "processed": report.processed,
        "dropped": report.dropped,
        "seconds": report.seconds,
        "stages": {name: numbers(times) for name, times in report.stages.items()},
    }


def display_of(way: str, opened: ExitStack) -> tuple[Display, Callable[[], dict[str, Any]]]:
    """A display, and what it reports after the run."""
    if way == "window":
        from streamseg.display import WindowDisplay
        from tests.display.desktops import open_desktop

        desktop = opened.enter_context(open_desktop(1920, 1080))
        os.environ["DISPLAY"] = f":{desktop.number}"
        return WindowDisplay("streamseg benchmark", full_screen=True), dict
    if way == "page":
        from benchmarks.live_age.browser import watched_page

        return watched_page(opened)
    memory = OverlayDisplay()
    return memory, lambda: {"drawing": memory.drawing_ns}


def plain(url: str, seconds: float) -> dict[str, Any]:
    """What everybody writes first: read a frame with OpenCV, segment it, draw it, read the next."""
    true: list[int] = []
    moments: list[float] = []
    unreadable = frames = 0
    segmenter = Segmenter(load_backend(), REGION)
    blank = Frame(np.zeros((REGION.y + REGION.height, REGION.width), np.uint8), 0, 0)
    for _ in range(3):
        segmenter.segment(blank)
    began = time.monotonic()
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    while (elapsed := time.monotonic() - began) < WARM_S + seconds:
        good, image = capture.read()
        if not good:
            break
        frame = Frame(np.asarray(image, np.uint8), frames, time.monotonic_ns())
        draw_overlay(frame.image, segmenter.segment(frame))
        shown_ns = time.monotonic_ns()
        frames += 1
        stamp = stamp_of(frame.image)
        if stamp is None:
            unreadable += 1
        elif elapsed > WARM_S:
            true.append(shown_ns - stamp)
            moments.append(elapsed - WARM_S)
    capture.release()
    return {"true": true, "moments": moments, "unreadable": unreadable, "processed": frames}


if __name__ == "__main__":
    main()
