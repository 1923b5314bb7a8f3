"""The page in a real browser: what is on its canvas, and what its controls do."""

import io

import numpy as np
import pytest
from PIL import Image

from streamseg.core.types import State
from streamseg.core.view import Command
from streamseg.render.symbols import STATE_WORDS, state_colours
from tests.waiting import wait_for
from tests.web.browsing import (
    COUNT,
    CYAN,
    FITS,
    GIVEN_UP,
    MAGENTA,
    ORANGE,
    YELLOW,
    opened,
    until,
    until_outline,
    until_seen,
    until_state,
    unusual,
    yellow_while_outlined,
)
from tests.web.feeding import Feed, open_and_never_read, serving

SAID = """() => {
  const parts = ["state", "words", "reason", "frame"].map((id) => document.getElementById(id));
  const [card, words, reason, frame] = parts;
  return {
    state: document.body.dataset.state,
    reason: reason.textContent.replace(/, \\d+ s ago$/, ""),
    words: words.innerText.split(/\\s+/),
    card: getComputedStyle(card).backgroundColor,
    marked: frame.classList.contains("old"),
  };
}"""


def test_the_outline_is_drawn_on_its_own_image(browser, feed, display):
    complaints = []
    requests = []
    with opened(browser, display.url, complaints=complaints) as page:
        page.on("request", lambda request: requests.append(request.url))
        yellow_while_outlined(page)
        assert page.evaluate(COUNT, MAGENTA) == 0  # the screen around the region
        page.reload()
        yellow_while_outlined(page)
        # A page on a busy machine loses the stream for a moment at any time, and says so in the same places.
        until(page, "document.getElementById('area').textContent.includes('mm²')")
        until(page, "document.getElementById('words').textContent === 'NERVE'")
        until(page, "document.getElementById('depth').textContent.endsWith('mm')")
        assert page.text_content("#source") == "a phantom"
        assert "not a medical device" in page.text_content("#disclaimer")
        until(page, "streamseg.ages.length > 20")
        assert min(page.evaluate("streamseg.ages")) >= 40  # the views are that old when they are made
        assert page.evaluate("streamseg.link.clock.error") < 1000
        wait_for(lambda: any(times.count > 10 for times in display._hub.ages().values()), "answers")
        assert all(url.startswith(display.url) for url in requests)
        gave_up = page.evaluate("streamseg.events.some((event) => event.what === 'closed')")
    # On a busy machine a connection may come too late: the page tries again and asks the server why.
    assert unusual(complaints, *((GIVEN_UP, "426 (Upgrade Required)") if gave_up else ())) == []


def test_other_states_show_no_outline(browser, feed, display):
    feed.state = State.NO_NERVE
    with opened(browser, display.url) as page:
        for state in State:
            if state in (State.NERVE, State.LOW_CONFIDENCE):
                continue
            feed.state, feed.reason = state, f"because of {state.name}"
            blue, green, red = state_colours(state)[0]
            expected = {
                "state": state.value,
                "reason": f"because of {state.name}",
                "words": STATE_WORDS[state].split(),
                "card": f"rgb({red}, {green}, {blue})",
                "marked": state in (State.SOURCE_LOST, State.FROZEN, State.ENDED),
            }
            until_seen(page, SAID, expected)
            assert page.evaluate(COUNT, YELLOW) == 0


def test_uncertain_outline_is_dashed_and_orange(browser, feed, display):
    feed.state = State.LOW_CONFIDENCE
    with opened(browser, display.url) as page:
        yellow_while_outlined(page, ORANGE, 60)
        assert page.evaluate(COUNT, YELLOW) == 0


def test_the_age_of_an_old_image_does_not_stand_beside_a_new_one(browser, feed, display):
    """Figures are written four times a second, and later on a busy machine; the image changes before."""
    with opened(browser, display.url) as page:
        yellow_while_outlined(page)
        text = page.evaluate(
            """() => new Promise((done) => {
              const { on } = streamseg.stream, { changed } = on, age = document.getElementById("age");
              on.changed = () => {
                on.changed = changed;
                age.dataset.text = age.textContent = "2.0 s";
                streamseg.stream.wroteOld = true;
                changed();
                queueMicrotask(() => done(age.textContent));
              };
            })"""
        )
        assert text.endswith(" ms")


def test_controls_by_keyboard_and_mouse(browser, feed, display):
    with opened(browser, display.url, accept_downloads=True) as page:
        yellow_while_outlined(page)
        page.keyboard.press("o")
        until_outline(page, False)
        assert page.evaluate(COUNT, YELLOW) == 0
        assert page.is_visible("#mark")
        page.click("#overlay")
        until_outline(page)
        assert not page.is_visible("#mark")
        page.keyboard.press("-")
        page.keyboard.press("-")
        assert page.evaluate("streamseg.ui.opacity") == pytest.approx(0.15)
        page.keyboard.press("+")
        assert page.input_value("#opacity") == "20"
        display.poll()
        asked = []
        until(page, "!document.getElementById('record').hidden")
        page.keyboard.press("r")
        page.click("#record")
        wait_for(lambda: asked.extend(display.poll()) or len(asked) >= 2, "the commands")
        assert asked == [Command.START_RECORDING, Command.START_RECORDING]
        for status, pressed, command in (
            ("recording 0:12, 3 left out", "true", Command.STOP_RECORDING),
            ("recording stopped: disk full", "false", Command.START_RECORDING),
            ("recorded 0:13", "false", Command.START_RECORDING),
        ):
            feed.options["recording"] = status
            until(page, f"document.getElementById('record').ariaPressed === '{pressed}'")
            until(page, f"document.getElementById('counts').textContent.endsWith('{status[-4:]}')")
            display.poll()
            page.click("#record")
            wait_for(lambda: asked.extend(display.poll()) or asked[2:], "the command")
            assert asked[2:] == [command], status
            del asked[2:]
        del feed.options["recording"]
        with page.expect_download() as saved:
            page.keyboard.press("s")
        download = saved.value
        assert download.suggested_filename.startswith("streamseg-")
        with Image.open(io.BytesIO(download.path().read_bytes())) as picture:
            assert picture.format == "PNG"
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert pixels.shape[1] == 2 * 580
        assert pixels.shape[0] > 2 * 420


LEGEND = """() => [...document.querySelectorAll(".vessels, #nerve-line")]
  .map((node) => getComputedStyle(node).display !== "none")"""
"""Whether the vessels' area, distance and button, and the sample of the nerve's line are shown."""


def test_vessels_are_outlined_beside_the_nerve_and_can_be_hidden(browser, feed, display):
    with opened(browser, display.url) as page:
        until_outline(page)
        assert not any(page.evaluate(LEGEND)), "an engine for nerves alone needs no legend"
        assert page.evaluate(COUNT, CYAN) == 0
        feed.options["vessels"] = True
        yellow_while_outlined(page, CYAN, 100)
        yellow_while_outlined(page)
        assert all(page.evaluate(LEGEND))
        until(page, "/^[0-9]+[.][0-9] mm$/.test(document.getElementById('distance').textContent)")
        until(page, "document.getElementById('vessel-area').textContent.includes('mm²')")
        page.keyboard.press("v")
        until(page, f"({COUNT})({CYAN}) === 0")
        yellow_while_outlined(page)
        assert page.evaluate("document.getElementById('vessels').ariaPressed") == "false"
        for figure in ("vessel-area", "distance"):
            assert page.text_content(f"#{figure}") == "off"
        page.click("#vessels")
        yellow_while_outlined(page, CYAN, 100)
        page.keyboard.press("o")
        until_outline(page, False)
        assert page.evaluate(COUNT, CYAN) == 0
        page.keyboard.press("o")
        feed.state = State.NO_NERVE
        yellow_while_outlined(page, CYAN, 100)
        until(page, f"document.body.dataset.state === 'no nerve' && ({COUNT})({YELLOW}) === 0")
        until(page, "document.getElementById('distance').textContent === '-'")


def test_an_outline_of_a_vessel_leaves_when_it_expires(browser, feed, display):
    feed.options["vessels"] = True
    with opened(browser, display.url) as page:
        yellow_while_outlined(page, CYAN, 100)
        feed.paused = True
        until_outline(page, False)
        until(page, f"({COUNT})({CYAN}) === 0")


def test_vessels_can_be_hidden_from_the_start(browser):
    with serving(vessels=False) as display, Feed(display, vessels=True), opened(browser, display.url) as page:
        yellow_while_outlined(page)
        until(page, "document.getElementById('vessels').ariaPressed === 'false'")
        assert page.evaluate(COUNT, CYAN) == 0
        page.keyboard.press("v")
        yellow_while_outlined(page, CYAN, 100)


def test_a_frozen_display_keeps_its_image_without_the_outline(browser, feed, display):
    with opened(browser, display.url) as page:
        until_outline(page)
        page.keyboard.press("f")
        until_state(page, "display frozen")
        until_outline(page, False)
        shown = page.evaluate("streamseg.kept.view.view")
        seen = feed.number
        wait_for(lambda: feed.number > seen + 10, "views")
        assert page.evaluate("streamseg.kept.view.view") == shown
        until(page, "document.getElementById('frame').className === 'old'")
        until(page, "document.getElementById('reason').textContent.includes('live now: nerve')")
        page.keyboard.press(" ")
        until_outline(page)
        assert page.evaluate("streamseg.kept.view.view") > shown


def test_only_segmented_frames_count_for_the_age(browser, feed, display):
    feed.state = State.LAGGING  # pictures pass through, nothing is known about them
    with opened(browser, display.url) as page:
        until_state(page, "segmentation lagging")
        until(page, "document.getElementById('age').textContent.includes('ms')")
        assert page.evaluate("streamseg.ages.length") == 0
        feed.state = State.NERVE
        until(page, "streamseg.ages.length > 0")


def test_a_token_opens_the_page_and_disappears_from_the_address(browser):
    with serving(host="0.0.0.0") as display, Feed(display):
        token = display.url.partition("?token=")[2]
        address = f"http://127.0.0.1:{display.port}/"
        with opened(browser, address) as page:
            assert "a token is needed" in page.text_content("body")
            page.goto(f"{address}?token={token}")
            until_outline(page)
            assert page.url == address
            page.reload()
            until_outline(page)
            assert page.evaluate("document.cookie") == ""


def test_a_long_name_of_the_source_hides_nothing(browser):
    title = "phantom:?" + "&".join(f"option{number}=value" for number in range(12))
    with serving(title=title, record=True) as display, Feed(display), opened(browser, display.url) as page:
        until_outline(page)
        assert page.text_content("#source") == title
        assert page.evaluate("document.querySelector('footer').clientHeight") < 60
        assert page.evaluate("document.querySelector('aside').scrollWidth") <= page.evaluate(
            "document.querySelector('aside').clientWidth"
        )


def test_everything_fits_on_phones_and_screens(browser, feed, display):
    sizes = {"phone": (390, 844), "turned": (844, 390), "tablet": (768, 1024), "small": (1280, 720)}
    with opened(browser, display.url) as page:
        feed.state = State.LAGGING
        until_state(page, "segmentation lagging")
        for name, (width, height) in {**sizes, "large": (1920, 1080)}.items():
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(100)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            assert page.evaluate(f"({FITS})('words')"), name
            for part in ("#state", "#picture"):
                box = page.locator(part).bounding_box()
                assert box["y"] >= 0, name
                assert box["y"] + box["height"] <= height, name
                assert box["x"] >= 0, name
                assert box["x"] + box["width"] <= width, name


COVERED = """() => [...document.querySelectorAll("button, input, #disclaimer")].filter((part) => {
  const { left, right, top, bottom } = part.getBoundingClientRect();
  return !part.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2));
}).map((part) => part.id)"""


@pytest.mark.parametrize(
    ("width", "height"), [(1920, 1080), (1600, 900), (1366, 768), (1280, 720), (1024, 600)]
)
def test_controls_stay_in_sight_beside_all_figures(browser, feed, display, width, height):
    feed.options["vessels"] = True
    with opened(browser, display.url) as page:
        page.set_viewport_size({"width": width, "height": height})
        until(page, "document.getElementById('vessel-area').textContent.includes('mm²')")
        until_seen(page, COVERED, [])
        for part in ("age", "counts", "chart"):  # what lies below the edge can be scrolled to
            page.locator(f"#{part}").scroll_into_view_if_needed()
            assert page.evaluate(COVERED) == []


@pytest.mark.slow  # test_hub.py has eight pages without a browser
def test_eight_browser_pages_and_one_that_never_reads(browser, feed, display):
    context = browser.new_context(viewport={"width": 320, "height": 240})
    try:
        with open_and_never_read(display.port):
            pages = [context.new_page() for _ in range(8)]
            for page in pages:
                page.goto(display.url)
            for page in pages:
                until(page, "streamseg.ages.length > 5")
            assert display.clients >= 8
    finally:
        context.close()
