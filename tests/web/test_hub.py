"""Views on their way to many pages: newest first, each at its own pace, none held up by another."""

import json
import os
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from streamseg.core.errors import SinkError
from streamseg.core.types import Frame, Roi, State
from streamseg.core.view import Command, View
from streamseg.web import client
from tests.waiting import wait_for
from tests.web.feeding import Feed, Reader, open_and_never_read, serving
from tests.web.views import view


def test_image_and_metadata_come_together(feed, display):
    with Reader(display.port) as reader:
        reader.read_views(5)
        assert reader.texts[0]["hello"]
        assert set(reader.texts[0]["signs"]) >= {state.value for state in State}
        for values, jpeg in reader.views:
            assert values["picture"]
            assert jpeg.startswith(b"\xff\xd8")
            assert values["life"] > 0
            assert values["outline"]
        numbers = [values["view"] for values, _ in reader.views]
        assert numbers == sorted(set(numbers))


def test_nothing_is_sent_before_the_answer(feed, display):
    with Reader(display.port) as reader:
        reader.read_views(1, answer=False)
        reader.read_for(0.4, answer=False)
        assert len(reader.views) == 1
        assert sum("beat" in text for text in reader.texts) >= 2  # but it lives
        shown = feed.number - 1  # the last one may be on its way
        reader.send({"ack": reader.views[0][0]["view"], "age": None, "at": 0})
        reader.read_views(1, answer=False)
        assert reader.views[1][0]["view"] >= shown  # the newest, not the next


def test_an_unchanged_image_is_sent_once():
    with serving() as display, Reader(display.port) as reader:
        first = view(1, State.NO_NERVE)
        display.show(first)
        reader.read_views(1)
        display.show(View(2, time.monotonic_ns(), State.SOURCE_LOST, "gone", first.frame, first.roi))
        reader.read_views(1)
        display.show(View(3, time.monotonic_ns(), State.SOURCE_LOST, "no picture at all"))
        reader.read_views(1)
        display.show(View(4, time.monotonic_ns(), State.NO_NERVE, "", first.frame, Roi(0, 0, 64, 48)))
        reader.read_views(1)
        pictures = [(values["picture"], len(jpeg) > 0) for values, jpeg in reader.views]
        assert pictures == [(1, True), (1, False), (0, False), (2, True)]


def test_pages_are_notified_of_the_end():
    with serving() as display, Reader(display.port) as reader:
        display.show(view(1))
        reader.read_views(1, answer=False)
        display.show(view(2, State.ENDED))
        display.close()
        with pytest.raises(ConnectionClosed):
            reader.read_for(10)
        assert {"end": "source ended"} in reader.texts


def test_a_second_page_gets_the_image_that_the_first_has():
    with serving() as display, Reader(display.port) as one:
        display.show(view(1))
        one.read_views(1)
        with Reader(display.port) as other:
            other.read_views(1)
            assert other.views[0][1] == one.views[0][1] != b""


def test_rate_is_limited():
    began = time.monotonic()
    with serving(rate=5) as display, Feed(display, rate=60), Reader(display.port) as reader:
        reader.read_views(8)
        assert time.monotonic() - began > 0.9  # five intervals of 0.2 s, after what comes at once


def test_heartbeats_are_sent_without_views():
    with serving() as display, Reader(display.port) as reader:
        reader.read_for(1.0)
        beats = [text["beat"] for text in reader.texts if "beat" in text]
        assert len(beats) >= 5
        assert beats == sorted(beats)
        assert [text for text in reader.texts if "beat" in text][-1]["quiet"] > 0


def test_the_server_answers_pings_with_its_time(display):
    with Reader(display.port) as reader:
        before = time.monotonic_ns() / 1e6
        reader.send({"ping": 17.25})
        while not any("pong" in text for text in reader.texts):
            reader.read()
        (pong,) = [text for text in reader.texts if "pong" in text]
        assert pong["pong"] == 17.25
        assert before <= pong["now"] <= time.monotonic_ns() / 1e6


def test_pages_may_request_recording_only_if_it_is_offered(display):
    display.poll()
    with Reader(display.port) as reader:
        reader.send({"command": "record"})
        asked = []
        wait_for(lambda: asked.extend(display.poll()) or bool(asked), "the command")
        assert asked == [Command.RECORD]
        assert display.poll() == []
        reader.send({"command": "record", "on": True})
        reader.send({"command": "record", "on": False})
        wait_for(lambda: asked.extend(display.poll()) or len(asked) == 3, "the commands")
        assert asked[1:] == [Command.START_RECORDING, Command.STOP_RECORDING]
    with serving() as closed, Reader(closed.port) as reader:
        reader.send({"command": "record"})
        with pytest.raises(ConnectionClosed):
            reader.read_for(5)
        assert closed.poll() == []


def test_a_page_cannot_end_the_recording_of_the_operator():
    with (
        serving(record=True, recorded_by_operator=True) as display,
        Feed(display),
        Reader(display.port) as page,
    ):
        for message in ({}, {"on": True}, {"on": False}):
            page.send({"command": "record", **message})
        page.read_views(3)
        assert page.texts[0]["record"] is False
        assert display.poll() == []


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "",
        "[]",
        "7",
        "null",
        "[" * 2000,
        '{"command": "quit"}',
        '{"command": "record", "on": 1}',
        '{"command": ["record"]}',
        '{"ack": 999999}',
        '{"ack": true}',
        '{"ack": "1"}',
        '{"ping": NaN}',
        '{"ping": "now"}',
        '{"ping": -1}',
        '{"ping": true}',
        '{"ping": ' + "9" * 400 + "}",
        '{"ping": ' + "9" * 4000 + "}",
        '{"ping": 1e999}',
        '{"ping": -1e-400, "ack": 1e400}',
        '{"ack": ' + "9" * 4000 + "}",
        '{"ack": [' + "[" * 2000 + "]" * 2000 + "]}",
        '{"a":' * 600 + "1" + "}" * 600,
        '{"command": "' + "record" * 600 + '"}',
        '{"ping": "\u00b2"}',
        b"\x00\x01",
        "x" * (client.MAX_BYTES + 1),
        '{"a": "\ud83d\ude00"}'.encode("utf-16", "surrogatepass"),
    ],
)
def test_invalid_messages_end_that_page_only(feed, display, message, capfd):
    with Reader(display.port) as good, Reader(display.port) as bad:
        bad.read_views(1, answer=False)
        bad.connection.send(message)
        with pytest.raises(ConnectionClosed):
            bad.read_for(10, answer=False)
        good.read_views(2)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("age", ["NaN", "Infinity", '"old"', "1e9", "[]", "true"])
def test_impossible_ages_end_the_page(feed, display, age):
    with Reader(display.port) as reader:
        reader.read_views(1, answer=False)
        reader.connection.send(f'{{"ack": {reader.views[0][0]["view"]}, "age": {age}}}')
        with pytest.raises(ConnectionClosed):
            reader.read_for(10, answer=False)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xed\xa0\x80", b'{"ping": 1}\x80'])
def test_invalid_text_ends_the_page_without_a_message(display, capfd, text):
    with Reader(display.port) as reader:
        reader.connection.send(text, text=True)
        with pytest.raises(ConnectionClosed):
            reader.read_for(5)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    "flood",
    [
        b"\x89\xfd0000" + bytes(125),  # pings, whose pongs nobody reads
        b"\x00\x800000",  # fragments of a message that never ends
        b"\x80\x800000",
        b"\x8a\xfd0000" + bytes(125),
    ],
    ids=["pings", "fragments", "last fragments", "pongs"],
)
def test_a_flood_that_reads_nothing_is_cut_off(display, flood):
    with Reader(display.port) as good, open_and_never_read(display.port) as rude:
        wait_for(lambda: display.clients == 2, "both pages")
        if flood[0] == 0:
            rude.sendall(b"\x01\x800000")
        rude.settimeout(1)
        with pytest.raises(OSError, match=r"reset|[Pp]ipe"):
            rude.sendall(flood * ((64 << 20) // len(flood)))
        wait_for(lambda: display.clients == 1, "its end")
        good.read_for(0.2)


@pytest.mark.parametrize("count", [4, 60])
def test_many_pages_that_never_read_take_little_memory(count):
    noise = np.random.default_rng(1).integers(0, 256, (1500, 2000), np.uint8)
    with serving(clients=64) as display, ExitStack() as silent:
        before = memory_bytes()
        for _ in range(count):
            silent.enter_context(open_and_never_read(display.port))
        wait_for(lambda: display.clients == count, "the pages")
        for number in range(1, 30):
            image = np.roll(noise, number, 0)
            now = time.monotonic_ns()
            display.show(View(number, now, State.NO_NERVE, "", Frame(image, number, now), Roi.whole(image)))
            time.sleep(0.03)
        assert (
            memory_bytes() - before < 60e6 + count * 2 * 3e6
        )  # a JPEG of 2.6 MB, and one being put together


def memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_too_many_messages_end_the_page(display):
    def flood(reader):
        for _ in range(20 * client.MESSAGES_PER_S):
            reader.send({"ping": 1})
            reader.read()

    with Reader(display.port) as reader, pytest.raises(ConnectionClosed):
        flood(reader)


def test_pages_beyond_the_limit_are_refused():
    with serving(clients=2) as display, ExitStack() as open_pages:
        display.show(view(1))
        pages = [open_pages.enter_context(Reader(display.port)) for _ in range(2)]
        for page in pages:
            page.read_views(1)
        with Reader(display.port) as third, pytest.raises(ConnectionClosed) as raised:
            third.read()
        assert raised.value.rcvd.code == 1013
        assert "all 2 places" in raised.value.rcvd.reason
        pages[0].connection.close()
        wait_for(lambda: display.clients == 1, "the place")
        with Reader(display.port) as fourth:
            fourth.read_views(1)


def test_pages_of_one_address_lock_no_other_out():
    with serving(clients=4) as display, ExitStack() as open_pages:
        display.show(view(1))
        crowd = [open_pages.enter_context(Reader(display.port)) for _ in range(4)]
        for page in crowd:
            page.read_views(1)
        others = []
        for number in (2, 3, 4):
            local = (f"127.0.0.{number}", 0)
            others.append(open_pages.enter_context(Reader(display.port, source_address=local)))
            others[-1].read_views(1)
        assert display.clients == 4
        with pytest.raises(ConnectionClosed) as raised:
            crowd[3].read_for(5)
        assert raised.value.rcvd.code == 1013
        assert raised.value.rcvd.reason == "others need this place; 127.0.0.1 had 4 of 4"
        # Each has one: nobody has to go for another.
        with (
            Reader(display.port, source_address=("127.0.0.5", 0)) as late,
            pytest.raises(ConnectionClosed) as raised,
        ):
            late.read()
        assert "all 4 places" in raised.value.rcvd.reason
        for page in (crowd[0], *others):
            page.read_for(0.2)  # who shares keeps a place


@pytest.mark.parametrize(
    ("given", "viewer"),
    [
        ("8.8.8.8, 203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::"),
        ("[2001:db8::2]", "2001:db8::"),
        ("", "127.0.0.1"),
        ("unknown", "an unknown address"),
    ],
)
def test_behind_a_proxy_viewers_are_told_apart_by_what_it_notes_last(given, viewer):
    headers = {"X-Forwarded-For": given} if given else {}
    for public, expected in (("https://guide.example/", viewer), (None, "127.0.0.1")):
        with serving(public_url=public, token="0123456789abcdef") as display:
            origin = f"http://127.0.0.1:{display.port}"
            bearer = {"Authorization": "Bearer 0123456789abcdef"}
            with Reader(display.port, origin=origin, additional_headers={**headers, **bearer}) as page:
                page.read()
                (client,) = display._hub._clients.values()
                assert client.viewer == expected


def test_page_that_never_answers_is_dropped(monkeypatch):
    monkeypatch.setattr(client, "ACK_S", 0.3)
    with serving() as display, Feed(display), Reader(display.port) as reader:
        reader.read_views(1, answer=False)
        with pytest.raises(ConnectionClosed) as raised:
            reader.read_for(20, answer=False)
        assert "no answer" in raised.value.rcvd.reason


def test_eight_pages_and_one_that_never_reads(monkeypatch):
    monkeypatch.setattr(client, "ACK_S", 1.0)
    monkeypatch.setattr(client, "SEND_S", 0.5)
    with serving() as display, Feed(display) as feed, ExitStack() as pages:
        silent = pages.enter_context(open_and_never_read(display.port))
        wait_for(lambda: display.clients == 1, "the page that never reads")
        readers = [pages.enter_context(Reader(display.port)) for _ in range(8)]
        shown = [0] * len(readers)
        for _ in range(15):
            for number, reader in enumerate(readers):
                reader.read_views(1, answer=False)
                # No queue: what comes is no older than what was shown when this page last answered.
                assert reader.views[-1][0]["view"] >= shown[number]
                shown[number] = feed.number - 2  # the last one may be on its way
                reader.answer()
        wait_for(lambda: display.clients <= 8, "the end of the page that never reads")
        for reader in readers:
            reader.read_views(1)
            assert all(jpeg for _, jpeg in reader.views)
        silent.settimeout(10)
        received = silent.recv(1 << 20)
        assert received.startswith(b"HTTP/1.1 101")


def test_a_slow_page_lowers_only_its_own_rate():
    with serving() as display, Feed(display), Reader(display.port) as quick, Reader(display.port) as slow:
        quick.read_views(1)
        slow.read_views(1, answer=False)
        for _ in range(3):
            quick.read_views(8)
            slow.send({"ack": slow.views[-1][0]["view"], "age": 1, "at": 0})
            slow.read_views(1, answer=False)
        first, last = (values["view"] for values, _ in (slow.views[0], slow.views[-1]))
        assert len(slow.views) == 4
        assert last - first >= 3 * 7  # it saw a few of many, each time the newest


def test_nothing_is_encoded_without_a_page(monkeypatch):
    from streamseg.web import hub

    made = []
    monkeypatch.setattr(hub, "encode_jpeg", lambda *_: made.append(1) or b"JPEG")
    with serving() as display, Feed(display) as feed:
        wait_for(lambda: feed.number > 10, "views")
        assert not made
        with Reader(display.port) as one, Reader(display.port) as two:
            one.read_views(3)
            two.read_views(3)
        assert 3 <= len(made) <= feed.number


def test_a_frame_that_cannot_be_shown_ends_the_run():
    image = np.zeros((1, 70_000), np.uint8)
    now = time.monotonic_ns()
    shown = View(1, now, State.NO_NERVE, "", Frame(image, 0, now), Roi.whole(image))

    def failed(display):
        try:
            display.show(shown)
        except SinkError as error:
            return "70000x1" in str(error)
        return False

    with serving() as display, Reader(display.port):
        wait_for(lambda: failed(display), "the error")


def test_message_format_by_hand(feed, display):
    with Reader(display.port) as reader:
        data = reader.connection.recv()
        while isinstance(data, str):
            data = reader.connection.recv()
        (length,) = struct.unpack("<I", data[:4])
        assert json.loads(data[4 : 4 + length])["view"] >= 1
        assert data[4 + length :][:2] == b"\xff\xd8"
