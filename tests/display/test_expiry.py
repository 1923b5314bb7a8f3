"""An outline never reaches the screen after its expiry, and never stays there, however slow drawing is.

The window is a double that records what is put on it, and when; everything else is real.
"""

import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from streamseg.core.types import State
from streamseg.core.view import Command
from streamseg.display import window as module
from streamseg.render.live import LivePainter
from streamseg.render.live.layout import Layout
from streamseg.render.overlay import YELLOW
from tests.render.examples import view

SIZE = (640, 480)


class Glass:
    """A window that cannot be seen."""

    def __init__(self, title, *, full_screen):
        self.closed = False
        self.put_ns = []
        self.pictures = []
        self.pressed = []
        self.slow_s = 0.0

    def size(self):
        return SIZE

    def put(self, picture):
        self.put_ns.append(module.time.monotonic_ns())
        module.time.sleep(self.slow_s)
        self.pictures.append(picture)

    def pump(self): ...

    def take_keys(self):
        pressed, self.pressed = self.pressed, []
        return pressed

    def toggle_full_screen(self): ...

    def close(self):
        self.closed = True


class SlowPainter(LivePainter):
    """Takes a given time, like a busy machine."""

    pause_s = 0.0

    def paint(self, *args, **options):
        picture = super().paint(*args, **options)
        module.time.sleep(self.pause_s)
        return picture


class Clock:
    """A clock that advances only when asked: this machine may pause at any time."""

    def __init__(self):
        self.now_ns = time.monotonic_ns()

    def monotonic_ns(self):
        return self.now_ns

    def sleep(self, seconds):
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def display(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "usable_desktop", nullcontext)
    monkeypatch.setattr(module, "Window", Glass)
    monkeypatch.setattr(module, "LivePainter", SlowPainter)
    opened = module.WindowDisplay("glass", snapshots=tmp_path)
    yield opened
    opened.close()


def outlined(picture) -> bool:
    image = Layout.fit(SIZE, (120, 90)).image.crop(picture)
    return bool(np.all(np.abs(image.astype(int) - YELLOW) <= 12, axis=-1).any())


@pytest.mark.parametrize("seed", range(8))
def test_no_outline_reaches_the_screen_after_its_expiry_whatever_the_delays(display, seed, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    random = np.random.default_rng(seed)
    glass = display._window
    seen = 0
    for number in range(1, 61):
        display._painter.pause_s = float(random.choice([0, 0.002, 0.02]))
        glass.slow_s = float(random.choice([0, 0.002, 0.02]))
        expires_ns = clock.now_ns + int(random.integers(-5, 60)) * 1_000_000
        subject = replace(view(shape=(90, 120), number=number), expires_ns=expires_ns)
        first = len(glass.pictures)
        display.show(subject)
        while random.random() < 0.6:
            glass.pressed = [ord(key) for key in random.choice(list("fo+-x"), 1)]
            clock.sleep(float(random.choice([0, 0.001, 0.01])))
            display.poll()
        put = zip(glass.put_ns[first:], glass.pictures[first:], strict=True)
        for at_ns, picture in put:
            if display._held is None and outlined(picture):
                seen += 1
                assert at_ns < subject.expires_ns
    assert seen, "the test sees outlines where there are some"


def test_polling_alone_removes_an_expired_outline(display):
    glass = display._window
    subject = view(shape=(90, 120), expires_in_ms=300)
    display.show(subject)
    assert outlined(glass.pictures[-1])
    while time.monotonic_ns() < subject.expires_ns:
        display.poll()
    display.poll()
    assert not outlined(glass.pictures[-1])
    assert display._shown[0].state is State.LAGGING


def test_an_outline_that_expires_while_it_is_put_on_the_screen_is_removed_at_once(display):
    glass = display._window
    glass.slow_s = 0.3
    display.show(view(shape=(90, 120), expires_in_ms=200))
    assert not outlined(glass.pictures[-1])


def test_a_frozen_display_keeps_its_frame(display):
    glass = display._window
    display.show(view(shape=(90, 120), image=np.full((90, 120), 50, np.uint8), expires_in_ms=60_000))
    glass.pressed = [ord("f")]
    display.poll()
    for level in range(100, 200, 10):
        display.show(view(State.LAGGING, image=np.full((90, 120), level, np.uint8)))
        display.poll()
    held = Layout.fit(SIZE, (120, 90)).image.crop(glass.pictures[-1])
    assert outlined(glass.pictures[-1])
    assert int(np.median(held[:20])) in range(40, 51)
    glass.pressed = [ord(" ")]
    display.poll()
    assert np.all(Layout.fit(SIZE, (120, 90)).image.crop(glass.pictures[-1]) == 190)


def test_keys_before_the_first_view_and_unknown_ones_do_nothing(display):
    display._window.pressed = [ord(key) for key in "fso+-x w"] + [65505, 0x10FFFF]
    assert display.poll() == []
    assert display._window.pictures == []
    display._window.pressed = [ord("r"), ord("q"), 27]
    assert display.poll() == [Command.RECORD, Command.QUIT, Command.QUIT]
    display._window.closed = True
    assert display.poll() == [Command.QUIT]
    assert display.poll() == []


def test_the_tint_stays_within_its_bounds(display):
    display.show(view(shape=(90, 120)))
    for key, end in (("+", 1.0), ("-", 0.0)):
        for _ in range(15):
            display._window.pressed = [ord(key)]
            display.poll()
        assert display._style.opacity == end
