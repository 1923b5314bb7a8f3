"""The page under clocks that move in steps, as Firefox with resistFingerprinting has; the screen kept on."""

from __future__ import annotations

import time

import pytest

from tests.waiting import wait_for
from tests.web.browsing import COUNT, YELLOW, opened, until, until_outline
from tests.web.feeding import Feed, serving

STEPS = """
  const real = performance.now.bind(performance);
  const clocks = {
    floor: (t, g) => Math.floor(t / g) * g,
    ceil: (t, g) => Math.ceil(t / g) * g,
    // Firefox: within each step the reading jumps at a secret moment.
    jitter: (t, g) => {
      const n = Math.floor(t / g);
      const secret = (Math.abs(Math.sin(n * 12.9898) * 43758.5453) % 1) * g;
      return (t - n * g < secret ? n : n + 1) * g;
    },
  };
"""
COARSE = """() => {
  STEPS
  window.realNow = real;
  performance.now = () => clocks["KIND"](real(), GRAIN);
  window.hidden = [];
  const watch = () => new MutationObserver(() => {
    const { outline } = document.body.dataset;
    if (outline === "hidden") window.hidden.push(real());
  }).observe(document.body, { attributes: true, attributeFilter: ["data-outline"] });
  addEventListener("DOMContentLoaded", watch);
}"""
SIMULATION = """async () => {
  STEPS
  const { Clock } = await import(new URL("clock.js", location.href));
  let [seed, shown, lost, latest] = [1, 0, 0, -Infinity];
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (const [kind, step] of Object.entries(clocks)) {
    for (const grain of [0.02, 1, 16.67, 33, 100]) {
      for (let run = 0; run < 60; run += 1) {
        const read = (t) => step(t, grain);
        const offset = 1e6 * (random() - 0.5);
        const clock = new Clock(grain);
        let t = 1000 * random() + 5000;
        for (let ping = 0; ping < 40; ping += 1) {
          const [to, from] = [20 * random() ** 4, 20 * random() ** 4];
          clock.answered(read(t), t + to + offset, read(t + to + from));
          if (!clock.agrees(t + to + offset, read(t + to + from))) lost += 1;
          t += 60 + 40 * random();
          // A view that expires in a while is sent, and arrives after its way.
          const [way, life] = [20 * random() ** 4, 150 * random()];
          const arrived = read(t + way);
          const deadline = Math.min(clock.after(arrived, life), clock.earliest(t + life + offset));
          for (let at = t + way; at < t + life + 250; at += 1 + 5 * random()) {
            if (read(at) < deadline) { shown += 1; latest = Math.max(latest, at - t - life); }
          }
        }
      }
    }
  }
  return { shown, lost, latest };
}"""


def coarse(kind: str, grain: float) -> str:
    text = COARSE.replace("STEPS", STEPS).replace("KIND", kind).replace("GRAIN", str(grain))
    return f"({text})()"


def test_no_clock_shows_an_outline_too_long(browser, display) -> None:
    with opened(browser, display.url) as page:
        found = page.evaluate(SIMULATION.replace("STEPS", STEPS))
    assert found["shown"] > 10_000
    assert found["latest"] < 0.01, "milliseconds after the expiry"
    assert found["lost"] == 0


OTHER_CLOCKS = [("floor", 16.67), ("ceil", 16.67), ("ceil", 100), ("jitter", 100)]


@pytest.mark.parametrize(
    ("kind", "grain"),
    [
        ("floor", 100),
        ("jitter", 16.67),
        *(pytest.param(kind, grain, marks=pytest.mark.slow) for kind, grain in OTHER_CLOCKS),
    ],
)
def test_the_page_with_a_clock_in_steps(browser, kind: str, grain: float) -> None:
    budget_s = 0.25 if grain < 20 else 0.6
    with serving() as display, Feed(display, budget_s=budget_s) as feed:
        context = browser.new_context(viewport={"width": 900, "height": 600})
        try:
            page = context.new_page()
            page.add_init_script(coarse(kind, grain))
            page.goto(display.url)
            until_outline(page)
            until(page, f"Math.abs(streamseg.link.clock.grain - {grain}) < 0.1")
            until(page, "streamseg.ages.length > 5")
            assert min(page.evaluate("streamseg.ages")) >= 40  # the views are that old when they are sent
            assert page.evaluate("streamseg.link.clock.error") > grain / 4
            page.evaluate("window.hidden = []")
            feed.paused = True
            until(page, "window.hidden.length")
            wait_for(lambda: page.evaluate("document.body.dataset.outline") == "hidden", "the end")
            assert page.evaluate(COUNT, YELLOW) == 0
            before = time.monotonic_ns() / 1e6
            there = page.evaluate("realNow()")
            expired = page.evaluate("streamseg.kept.view.expires") - before + there  # early rather than late
            assert page.evaluate("window.hidden.at(-1)") < expired + 150, (
                "a busy machine is late; a clock is 100"
            )
            feed.paused = False
            until_outline(page)
        finally:
            context.close()


def test_a_clock_that_is_too_coarse_is_named(browser) -> None:
    with serving() as display, Feed(display):
        context = browser.new_context()
        try:
            page = context.new_page()
            page.add_init_script(coarse("floor", 100))
            page.goto(display.url)
            until(page, "document.getElementById('reason').textContent.includes('steps of 100 ms')")
            assert page.evaluate("document.body.dataset.outline") == "hidden"
            assert page.evaluate(COUNT, YELLOW) == 0
        finally:
            context.close()


def test_a_fine_clock_is_measured_at_once(browser, feed, display) -> None:
    with opened(browser, display.url) as page:
        until_outline(page)
        assert page.evaluate("streamseg.link.clock.grain") < 2


WAKE = """
  window.locks = [];
  Object.defineProperty(navigator, "wakeLock", { value: WAKELOCK, configurable: true });
  window.hide = (value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  };
"""
GRANTED = """{ async request(kind) {
  const lock = Object.assign(new EventTarget(), { kind });
  window.locks.push(lock);
  return lock;
} }"""


def woken(browser, url, wake_lock, complaints):
    context = browser.new_context()
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(WAKE.replace("WAKELOCK", wake_lock))
    page.goto(url)
    until_outline(page)
    return page


def test_the_screen_stays_on_while_the_page_is_visible(browser, feed, display) -> None:
    page = woken(browser, display.url, GRANTED, complaints := [])
    try:
        assert page.evaluate("locks.map((lock) => lock.kind)") == ["screen"]
        page.evaluate("hide(false)")
        assert page.evaluate("locks.length") == 1
        until(page, "streamseg.link.opened")  # Chromium complains of a connection that is left before
        page.evaluate("hide(true); locks[0].dispatchEvent(new Event('release'))")
        assert page.evaluate("locks.length") == 1
        page.evaluate("hide(false)")
        until(page, "locks.length === 2")
        until_outline(page)
        assert complaints == []
    finally:
        page.context.close()


@pytest.mark.parametrize(
    "wake_lock", ["undefined", "{ async request() { throw new Error('low battery'); } }"]
)
def test_without_a_wake_lock_the_page_works(browser, feed, display, wake_lock: str) -> None:
    page = woken(browser, display.url, wake_lock, complaints := [])
    try:
        page.evaluate("hide(true)")
        page.evaluate("hide(false)")
        until_outline(page)
        assert complaints == []
    finally:
        page.context.close()
