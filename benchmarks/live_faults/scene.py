"""The source, engine and display that a fault happens to: numbered images, an engine that can be checked, a
glass.

Every image shows its number as a bar code and a bright disc, which jumps further from image to image
than an outline may be off. The engine outlines what is bright. So the displayed image itself shows whether
an outline lies on the frame that it was computed from, and when that image was made.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.common import Listener
from streamseg.backends import FakeBackend
from streamseg.core.errors import EngineError
from streamseg.core.types import Frame, Grey, Image, InputSpec, Result, Roi, Segmentation, State, Tensor
from streamseg.core.view import Command, View, without_expired_outline
from tests.rtsp_server import barcode
from tests.rtsp_server.server import Server

FPS = 30
BAND = 64
"""Rows of the bar code."""
OFF = 8.0
"""Pixels by which an outline's centre may be off the disc's; the disc jumps by 18 and more."""
SPEC = InputSpec(120, 160, mean=0.0, std=1.0, threshold=0.5, min_area=0.001)
ENGINE_S = 0.025
SCREEN = 480, 640
"""Height and width of a machine's screen, in which the image has one of these places."""
USUAL, OTHER = Roi(80, 96, 400, 300), Roi(272, 176, 320, 240)
PLACED = 0.7
"""Overlap (intersection over union) with the image of a region that counts as the right one."""


def picture(number: int, height: int = 240, width: int = 320) -> Grey:
    """Grey image (height, width) of the disc over a moving texture, with its number on top."""
    image = np.roll(_texture(height, width), 3 * number, axis=1)
    room = height - BAND
    x = width / 2 + 0.3 * width * math.cos(0.35 * number)
    y = BAND + room / 2 + 0.3 * room * math.sin(0.35 * number)
    cv2.circle(image, (round(x), round(y)), round(0.13 * room), 255, -1)
    image[:BAND] = barcode.draw(number, BAND, width)
    return np.asarray(image, np.uint8)


@cache
def _texture(height: int, width: int) -> Grey:
    coarse = np.random.default_rng(5).integers(30, 110, (height // 8 + 1, width // 8 + 1), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


@cache
def _speckle(height: int, width: int) -> npt.NDArray[np.int16]:
    coarse = np.random.default_rng(6).integers(-24, 25, (height // 2, width // 2)).astype(np.int16)
    return np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)


@cache
def screen(text: str, grey: int = 60) -> Grey:
    """A machine's screen without an image: texts on an even grey."""
    blank = np.full(SCREEN, grey, np.uint8)
    for line, words in enumerate(text.splitlines()):
        cv2.putText(blank, words, (24, 40 + 40 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 200, 2)
    return blank


NO_SIGNAL, BLACK = screen("\n\n\n     NO SIGNAL", 20), screen("", 0)
MENU = screen("PATIENT\nName  SMITH^A\nPresets\n  Nerve\n  Vascular\n  Breast\nStorage\nNetwork", 140)


def screen_with(number: int, place: Roi) -> Grey:
    """The screen with the image of this number at a place."""
    drawn = screen("SMITH^A   L14-6").copy()
    image = picture(number, place.height, place.width)
    # Speckle all over it, as in tissue: the code's own squares are as flat as a user interface.
    band = image[:BAND] + np.roll(_speckle(BAND, place.width), 7 * number, axis=1)
    image[:BAND] = np.clip(band, 0, 205)
    place.crop(drawn)[:] = image
    return drawn


def overlap(one: Roi, other: Roi) -> float:
    """Intersection over union."""
    wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    both = max(0, wide) * max(0, high)
    return both / (one.width * one.height + other.width * other.height - both)


def off_by(image: Image, found: Segmentation, origin: tuple[int, int] = (0, 0)) -> float:
    """Pixels between the disc in an image and the centre of its largest outline.

    ``origin`` (x, y) is the image's place in the frame that the outline belongs to.
    """
    grey = image if image.ndim == 2 else image[..., 1]
    rows, columns = np.nonzero(grey[BAND:] > 240)
    if not len(rows) or not found.contours:
        return math.inf
    x, y = cv2.minEnclosingCircle(found.contours[0].reshape(-1, 1, 2))[0]
    x, y = x - origin[0], y - origin[1]
    return math.hypot(x - columns.mean(), y - BAND - rows.mean())


class DiscEngine(FakeBackend):
    """Outlines what is bright, in 25 ms; can be made slow, or to fail."""

    def __init__(self) -> None:
        super().__init__(SPEC, self._bright)
        self.delay_s = ENGINE_S
        self.broken = False

    def _bright(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        time.sleep(self.delay_s)
        if self.broken:
            raise EngineError("engine disc failed, as it was asked to")
        return np.where(tensor[0, 0] > 0.92, np.float32(0.99), np.float32(0.0))


class Feeder:
    """Feeds a server at its rate, as a machine does: what nobody takes in time is lost."""

    def __init__(self, server: Server, fps: float = FPS, place: Roi | None = None) -> None:
        """``place``: where the image is on a machine's screen; None: it is all that is sent."""
        self.frozen = False
        """The machine sends the same image over and over."""
        self.place = place
        self.instead: Grey | None = None
        """A screen that is sent instead of the image."""
        self._fps = fps
        self.sent_ns: dict[int, int] = {}
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-feeder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        shown = number = 0
        while not self._stop.wait(max(0.0, began + (number + 1) / self._fps - time.monotonic())):
            number = int((time.monotonic() - began) * self._fps)
            shown = shown if self.frozen else number
            self.sent_ns.setdefault(shown, time.monotonic_ns())
            with suppress(OSError, ValueError):  # killed, or being restarted
                self._server.feed(self._drawn(shown))

    def _drawn(self, number: int) -> Grey:
        if self.instead is not None:
            return self.instead
        if self.place is not None:
            return screen_with(number, self.place)
        return picture(number, self._server.options["height"], self._server.options["width"])

    def close(self) -> None:
        self._stop.set()
        self._thread.join(2)


@dataclass(frozen=True, slots=True)
class Seen:
    """What stood on the glass from a moment on."""

    at_ns: int
    state: State
    reason: str
    captured_ns: int | None
    """Of the frame, where its outline is seen."""
    number: int | None
    """By the image's own bar code, where its outline is seen."""
    misplaced: bool = False
    """The outline's region is not that of the image on the screen under it, if there is one at all."""

    def is_right(self, state: State) -> bool:
        """Whether this is that state; of the states with outlines, with one in its place."""
        outline = self.captured_ns is not None and not self.misplaced
        return self.state is state and (outline or state is not State.NERVE)


class Glass:
    """A display that keeps the window's promise, and remembers what could be seen.

    Before it puts an image up it compares the outline's expiry with the time at which that will be done, if
    it takes as long as the last one did; and it takes an outline off when it expires.
    """

    name = "glass"

    def __init__(self, places: tuple[Roi, ...] = ()) -> None:
        """``places``: where an image may be on the machine's screen; empty: it is all of the frame."""
        self.put_s = 0.0
        """How long putting an image up takes."""
        self._places = places
        self.seen: list[Seen] = []
        self.wrong = 0
        """Outlines that lay on another frame."""
        self._view: View | None = None
        self._checked = -1
        self._lead_ns = 0

    def show(self, view: View) -> None:
        began_ns = time.monotonic_ns()
        view = without_expired_outline(view, began_ns + self._lead_ns)
        time.sleep(self.put_s)
        self._lead_ns = time.monotonic_ns() - began_ns
        self._put(view)

    def poll(self) -> list[Command]:
        if self._view is not None:
            now = without_expired_outline(self._view, time.monotonic_ns())
            if now is not self._view:
                self._put(now)
        return []

    def close(self) -> None:
        pass

    def _put(self, view: View) -> None:
        now_ns = time.monotonic_ns()
        self._view = view
        frame, found = view.frame, view.segmentation
        if frame is None or found is None:
            self.seen.append(Seen(now_ns, view.state, view.reason, None, None))
            return
        whole = Roi.whole(frame)
        read = [(barcode.read(place.crop(frame.image)[:BAND]), place) for place in self._places or (whole,)]
        number, place = next((one for one in read if one[0] is not None), (None, whole))
        if frame.index != self._checked:
            self._checked = frame.index
            limit = OFF * place.height / 240
            self.wrong += (
                bool(found.contours) and off_by(place.crop(frame.image), found, (place.x, place.y)) > limit
            )
        misplaced = bool(self._places) and (
            number is None or view.roi is None or overlap(view.roi, place) < PLACED
        )
        self.seen.append(Seen(now_ns, view.state, view.reason, frame.captured_ns, number, misplaced))

    def outline_after(self, moment_ns: int) -> int | None:
        """When the first outline of a frame captured at or after a moment could be seen, in its place."""
        found = (
            seen.at_ns
            for seen in list(self.seen)
            if seen.captured_ns is not None
            and not seen.misplaced
            and min(seen.captured_ns, seen.at_ns) >= moment_ns
        )
        return next(found, None)


class Counter(Listener):
    """When frames came, and when they were segmented."""

    def __init__(self) -> None:
        self.offered_ns: list[int] = []
        self.segmented_ns: list[int] = []

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        self.offered_ns.append(arrived_ns)

    def on_result(self, result: Result) -> None:
        self.segmented_ns.append(time.monotonic_ns())


class Watchdog:
    """How long this process could not run when it wanted to: other work on the machine, or its own."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.002):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - 0.002)
            before = now

    def close(self) -> None:
        self._stop.set()
        self._thread.join(1)


def wait_for(found: Callable[[], object], seconds: float, stop: threading.Event) -> bool:
    """Whether something became true within a time, and before the run ended."""
    ends = time.monotonic() + seconds
    while not found():
        if time.monotonic() > ends or stop.wait(0.01):
            return False
    return True
