"""The page of several streams: every tile, page, figure and command belongs to its own stream."""

import json
import re
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from streamseg.core.errors import SinkError, SourceError
from streamseg.core.types import Frame, Roi, Segmentation, State
from streamseg.core.view import Command, Display, Figures, View
from streamseg.web import WebWall
from tests.waiting import wait_for
from tests.web.browsing import GIVEN_UP, YELLOW, opened, until, until_seen, unusual
from tests.web.feeding import Reader, get
from tests.web.test_status import samples

HEIGHT, WIDTH = 300, 400
LEVELS = [40, 80, 120, 160, 200, 60, 100, 140]
"""Grey level of each stream's frames."""
TOKEN = "a-secret-of-the-room"


def square_of(stream):
    """Left and top of the outline of a stream, each at another place."""
    return 20 + 90 * (stream % 4), 20 + 130 * (stream // 4)


def view_of(stream, number, state=State.NERVE, *, budget_s=0.15):
    """A grey view whose level and outline tell the stream; its age is 10 ms."""
    now = time.monotonic_ns()
    captured = now - 10_000_000
    image = np.full((HEIGHT, WIDTH), LEVELS[stream], np.uint8)
    found = None
    if state is State.NERVE:
        x, y = square_of(stream)
        mask = np.zeros(image.shape, bool)
        mask[y : y + 70, x : x + 60] = True
        corners = np.array([(x, y), (x + 59, y), (x + 59, y + 69), (x, y + 69)], np.int32)
        found = Segmentation(mask, (corners,), 4200, None, (x, y), 0.9, state)
    return View(
        number,
        now,
        state,
        frame=Frame(image, number, captured),
        roi=Roi(0, 0, WIDTH, HEIGHT),
        segmentation=found,
        expires_ns=None if found is None else captured + round(budget_s * 1e9),
        figures=Figures(offered=1000 * (stream + 1) + number, processed=number),
    )


class Feeding:
    """Shows a view of every stream 20 times a second, until the end of the block."""

    def __init__(self, wall):
        self.wall = wall
        self.silent, self.states = set(), {}
        self.number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.wait(0.05):
            self.number += 1
            for stream, display in enumerate(self.wall.streams):
                if stream not in self.silent:
                    state = self.states.get(stream, State.NERVE)
                    display.show(view_of(stream, self.number, state, budget_s=2.0))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join(10)


@contextmanager
def walling(count, **options):
    wall = WebWall([f"source-{number}" for number in range(1, count + 1)], port=0, **options)
    try:
        yield wall
    finally:
        wall.close()


def reader(wall, path):
    return Reader(wall.port, path=path)


def test_each_socket_serves_its_own_stream_alone():
    with walling(8) as wall, Feeding(wall):
        assert all(isinstance(display, Display) for display in wall.streams)
        for stream in (0, 3, 7):
            for kind in ("ws", "tile"):
                with reader(wall, f"{stream + 1}/{kind}") as page:
                    page.read_views(4)
                hello = page.texts[0]
                assert (hello["stream"], hello["streams"]) == (stream + 1, 8)
                assert hello["title"] == f"source-{stream + 1}"
                for values, jpeg in page.views:
                    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
                    assert abs(int(np.median(picture)) - LEVELS[stream]) <= 2
                    assert values["figures"]["offered"] // 1000 == stream + 1
                    if "outline" in values:
                        assert values["outline"][0][:2] == list(square_of(stream))
        with pytest.raises(InvalidStatus), reader(wall, "9/ws"):
            pass
        with pytest.raises(InvalidStatus), reader(wall, "ws"):
            pass


def test_images_of_tiles_are_small_and_those_of_pages_are_not():
    wide = np.zeros((900, 1600), np.uint8)
    with walling(3) as wall:
        frame = Frame(wide, 1, time.monotonic_ns())
        wall.streams[0].show(View(1, time.monotonic_ns(), State.LAGGING, frame=frame, roi=Roi.whole(wide)))
        sizes = {}
        for kind in ("ws", "tile"):
            with reader(wall, f"1/{kind}") as page:
                page.read_views(1)
            values, jpeg = page.views[0]
            assert values["size"] == [1600, 900], "outlines stay in pixels of the region"
            sizes[kind] = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2]
    assert sizes == {"ws": (900, 1600), "tile": (405, 720)}


def test_tiles_get_few_bare_views_and_every_segmented_one():
    with walling(2) as wall, reader(wall, "1/tile") as page:
        display = wall.streams[0]
        display.show(view_of(0, 1, State.LAGGING))
        page.read_views(1)
        began = time.monotonic()
        for number in range(2, 10):
            display.show(view_of(0, number, State.LAGGING))
            time.sleep(0.01)
        display.show(view_of(0, 10, State.LAGGING))
        page.read_views(1)
        while page.views[-1][0]["view"] != 10:
            page.read_views(1)
        assert time.monotonic() - began >= 0.09, "ten a second"
        assert len(page.views) <= 2 + 10 * (time.monotonic() - began)
        display.show(view_of(0, 11, State.NO_NERVE))
        page.read_views(1)
        assert page.views[-1][0]["state"] == "no nerve"


def test_commands_reach_the_loop_of_their_own_stream():
    with walling(3, record=True) as wall, Feeding(wall):
        with reader(wall, "2/ws") as page:
            page.read_views(1)
            page.send({"command": "record", "on": True})
            asked = wait_for(wall.streams[1].poll, "the command")
        assert asked == [Command.START_RECORDING]
        assert wall.streams[0].poll() == wall.streams[2].poll() == []


def test_health_and_figures_name_the_stream():
    with walling(3) as wall:
        for stream, display in enumerate(wall.streams):
            display.show(view_of(stream, 5))
        code, _, text = get(wall, "/healthz")
        health = json.loads(text)
        assert (code, health["ok"]) == (200, True)
        assert [(each["stream"], each["source"]) for each in health["streams"]] == [
            (1, "source-1"), (2, "source-2"), (3, "source-3"),
        ]  # fmt: skip
        wall.streams[1].show(view_of(1, 6, State.SOURCE_LOST))
        code, _, text = get(wall, "/healthz")
        assert (code, [each["ok"] for each in json.loads(text)["streams"]]) == (503, [True, False, True])
        assert get(wall, "/1/healthz")[0] == 200
        assert get(wall, "/2/healthz")[0] == 503
        found = samples(get(wall, "/metrics")[2])
        for stream in range(3):
            label = ("stream", str(stream + 1))
            assert found["streamseg_frames_offered_total", label] // 1000 == stream + 1
            info = ("source", f"source-{stream + 1}")
            assert found["streamseg_stream_info", info, label] == 1
        lost = [
            dict(labels)["stream"]
            for (name, *labels), value in found.items()
            if name == "streamseg_state" and dict(labels)["state"] == "source_lost" and value
        ]
        assert lost == ["2"]
        alone = samples(get(wall, "/2/metrics")[2])
        assert alone["streamseg_frames_offered_total",] // 1000 == 2


def test_one_token_opens_every_page_and_none_opens_without():
    with walling(2, token=TOKEN) as wall:
        for path in ("/", "/2/", "/healthz", "/streams", "/1/healthz", "/2/page.js"):
            assert get(wall, path)[0] == 401
        for path in ("/", "/2/"):
            code, headers, _ = get(wall, f"{path}?token={TOKEN}")
            assert code == 200
            cookie = re.match(r"[^;]+", headers["set-cookie"])[0]
            assert json.loads(get(wall, "/streams", Cookie=cookie)[2]) == {"streams": 2}
            assert get(wall, "/1/", Cookie=cookie)[0] == 200
        assert get(wall, f"/page.js?token={TOKEN}")[0] == 401
        with pytest.raises(InvalidStatus), reader(wall, "1/tile"):
            pass


def test_a_path_without_its_slash_leads_to_the_page():
    with walling(2) as wall:
        code, headers, _ = get(wall, "/2")
        assert (code, headers["location"]) == (307, "2/")
        assert get(wall, "/3")[0] == 404


def test_the_end_of_a_stream_is_shown_and_counts_as_no_silence():
    with walling(2) as wall, reader(wall, "1/tile") as page:
        first, second = wall.streams
        first.show(view_of(0, 3))
        first.close()
        first.end(SourceError("the cable was pulled; put it back"))
        second.show(View(4, time.monotonic_ns(), State.ENDED, "the recording has been played to its end"))
        second.end()
        page.read_views(1)
        while page.views[-1][0]["state"] != "source lost":
            page.read_views(1)
        last = page.views[-1][0]
        assert last["reason"] == "this stream has ended: the cable was pulled; put it back"
        assert "outline" not in last
        assert last["frame"] == 3, "the last image stays, marked as old"
        late = time.monotonic_ns() + 60 * 10**9
        assert first.hub.status.quiet_s(late) == 0
        healths = [display.hub.status.health(late) for display in wall.streams]
        assert [(health["ok"], health["state"]) for health in healths] == [
            (False, "source lost"), (True, "source ended"),
        ]  # fmt: skip


def test_an_image_too_large_for_the_page_fails_its_own_stream():
    with walling(2) as wall, reader(wall, "1/ws") as page:
        flat = np.zeros((1, 70_000), np.uint8)
        frame = Frame(flat, 1, time.monotonic_ns())
        wall.streams[0].show(View(1, time.monotonic_ns(), State.LAGGING, frame=frame, roi=Roi.whole(flat)))
        wait_for(lambda: wall.streams[0].hub.failure, "the failure")
        with pytest.raises(SinkError, match="choose a smaller region"):
            wall.streams[0].show(view_of(0, 2))
        wall.streams[1].show(view_of(1, 2))
        del page


LOOK = """([number, yellow]) => {
  const tile = streamseg.tiles[number];
  if (!tile?.outlined) return null;
  const { canvas } = tile;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const corner = data[4 * (canvas.width * (canvas.height - 3) + canvas.width - 3)];
  let [count, x, y] = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) {
    if (yellow.every((value, channel) => Math.abs(data[i + channel] - value) < 24)) {
      count += 1;
      x += (i / 4) % canvas.width / canvas.width;
      y += Math.floor(i / 4 / canvas.width) / canvas.height;
    }
  }
  return { corner, count, x: x / count, y: y / count };
}"""
"""Of a tile with an outline: the grey level of its image, and the middle of the yellow pixels, as shares."""


def look_at(page, stream):
    """What a tile shows, which must be of its own stream; None if it shows no outline at this moment."""
    seen = page.evaluate(LOOK, [stream, YELLOW])
    if seen is not None:
        x, y = square_of(stream)
        assert seen["count"] > 60
        assert abs(seen["x"] - (x + 30) / WIDTH) < 0.03
        assert abs(seen["y"] - (y + 35) / HEIGHT) < 0.03
        assert abs(seen["corner"] - LEVELS[stream]) < 4
    return seen


def press(page, key):
    """Press a key that leads to another page: Playwright's own way waits for the page that was left."""
    page.evaluate("(key) => { setTimeout(() => dispatchEvent(new KeyboardEvent('keydown', { key }))); }", key)


def until_outlined(page, stream):
    until(page, f"streamseg.tiles[{stream}]?.outlined")


def test_every_tile_shows_its_own_image_and_outline_and_one_click_shows_one_alone(browser):
    complaints = []
    with (
        walling(8, opacity=0.0) as wall,
        Feeding(wall) as feed,
        opened(browser, wall.url, complaints=complaints) as page,
    ):
        for stream in range(8):  # a busy machine may hide any of them at any moment
            wait_for(lambda k=stream: page.wait_for_timeout(20) or look_at(page, k), "its outline")
        feed.silent.add(4)  # one hangs, and the others go on
        until(page, "!streamseg.tiles[4].outlined && streamseg.tiles[4].state === 'program hangs'")
        until_outlined(page, 3)
        page.keyboard.press("o")
        assert not page.evaluate("streamseg.tiles.some((tile) => tile.outlined)")
        assert page.is_visible("#mark")
        page.keyboard.press("o")
        until_outlined(page, 3)
        page.click(".tile:nth-child(3)")
        page.wait_for_url(f"{wall.url}3/")
        until(page, "document.getElementById('which')?.textContent === 'Stream 3 of 8: source-3'")
        assert page.title() == "3: source-3"
        look = f"""() => {{
          const {{ data }} = document.getElementById("picture").getContext("2d").getImageData(5, 5, 1, 1);
          return document.body.dataset.outline === "shown" && Math.abs(data[0] - {LEVELS[2]}) < 4;
        }}"""
        until(page, f"({look})()")
        press(page, "6")
        page.wait_for_url(f"{wall.url}6/")
        until(page, "document.getElementById('which')?.textContent === 'Stream 6 of 8: source-6'")
        press(page, "Escape")
        page.wait_for_url(wall.url)
        until(page, "window.streamseg?.tiles?.length === 8")
        press(page, "2")
        page.wait_for_url(f"{wall.url}2/")
        until(page, "document.getElementById('which')?.textContent === 'Stream 2 of 8: source-2'")
        page.click("#others a")
        page.wait_for_url(wall.url)
        until(page, "window.streamseg?.tiles?.length === 8")
    assert unusual(complaints, GIVEN_UP) == []  # this test leaves pages that are still connecting


def test_a_lost_and_an_ended_stream_are_marked_in_their_own_tiles(browser):
    with walling(4) as wall, Feeding(wall) as feed, opened(browser, wall.url) as page:
        until(page, "window.streamseg?.tiles?.length === 4")
        for stream in range(4):
            until_outlined(page, stream)
        feed.states[1] = State.SOURCE_LOST
        feed.silent.add(2)
        wait_for(lambda: wall.streams[2].hub.status.view.number < feed.number - 1, "its last view")
        wall.streams[2].end(SourceError("no such device"))
        until(page, "document.getElementById('summary').textContent === '2 of 4 streams need a look: 2, 3'")
        marks = "[...document.querySelectorAll('.frame')].map((frame) => frame.className)"
        until_seen(page, marks, ["frame", "frame old dim", "frame old dim", "frame"])
        time.sleep(2.5)  # longer than the silence after which a program counts as hanging
        until(page, "streamseg.tiles[2].state === 'source lost'")
        assert page.evaluate("document.querySelectorAll('.reason')[2].textContent").endswith("no such device")


@pytest.mark.parametrize(("width", "height"), [(1600, 900), (390, 844), (1024, 600)])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_all_tiles_fit_on_the_screen(browser, count, width, height):
    with walling(count) as wall, opened(browser, wall.url) as page:
        page.set_viewport_size({"width": width, "height": height})
        until(page, f"window.streamseg?.tiles.length === {count}")
        boxes = page.evaluate(
            "[...document.querySelectorAll('.tile')].map((tile) => tile.getBoundingClientRect().toJSON())"
        )
        assert len(boxes) == count
        for box in boxes:
            assert box["left"] >= 0
            assert box["right"] <= width + 1
            assert box["bottom"] <= height + 1
            assert box["width"] > 120
            assert box["height"] > 110
