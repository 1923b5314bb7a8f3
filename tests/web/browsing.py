"""What the tests of the page do with a real browser."""

from __future__ import annotations

import time
from contextlib import contextmanager

from tests.waiting import PATIENCE_S

COUNT = """(colour) => {
  const { canvas } = document.getElementById("picture").getContext("2d");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let near = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (colour.every((value, channel) => Math.abs(data[i + channel] - value) < 24)) near += 1;
  }
  return near;
}"""
FITS = "(id) => document.getElementById(id).scrollWidth <= document.getElementById(id).clientWidth"
TAIL = """JSON.stringify([
  document.getElementById("reason")?.textContent, window.streamseg?.events.slice(-5),
])"""
YELLOW, ORANGE, MAGENTA, CYAN = [240, 228, 66], [230, 159, 0], [255, 0, 255], [0, 214, 255]


@contextmanager
def opened(browser, url, *, complaints=None, **options):
    context = browser.new_context(viewport={"width": 1280, "height": 720}, **options)
    context.set_default_timeout(PATIENCE_S * 1000)
    try:
        page = context.new_page()
        if complaints is not None:
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        yield page
    finally:
        context.close()


GIVEN_UP = "closed before the connection is established"
"""Chromium's word about a page that leaves a connection while it is being made."""


def unusual(complaints, *expected):
    """What a page has complained of, but for the expected and that tests read its canvas."""
    known = ("willReadFrequently", *expected)
    return [text for text in complaints if not any(part in text for part in known)]


def until(page, condition):
    """Wait until an expression is true in the page; Playwright's own waiting needs eval, which it forbids."""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(f"Boolean({condition})"):
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {condition}; {page.evaluate(TAIL)}"
        page.wait_for_timeout(15)


def until_seen(page, look, expected):
    """Wait until all that one look at the page finds is as expected, at the same moment."""
    end = time.monotonic() + PATIENCE_S
    while (seen := page.evaluate(look)) != expected:
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {expected}; {seen}"
        page.wait_for_timeout(15)


def until_state(page, state):
    until(page, f"document.body.dataset.state === '{state}'")


def until_outline(page, shown=True):
    until(page, f"document.body.dataset.outline === '{'shown' if shown else 'hidden'}'")


def events(page, what, after=0.0):
    return [
        event for event in page.evaluate("streamseg.events") if event["what"] == what and event["at"] > after
    ]


def now(page):
    return page.evaluate("performance.now()")


def yellow_while_outlined(page, colour=YELLOW, least=200):
    """Read the canvas and the page's own word for it in one go, until the outline is there."""
    until(page, f"document.body.dataset.outline === 'shown' && ({COUNT})({colour}) >= {least}")
