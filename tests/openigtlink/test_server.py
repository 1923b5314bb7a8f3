"""The server: what viewers get, in which order, and that none of them waits for another."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from streamseg.core.errors import SinkError, UsageError
from streamseg.core.types import State, Structure
from streamseg.core.view import View
from streamseg.openigtlink import OpenIGTLinkDisplay
from streamseg.openigtlink import server as server_module
from streamseg.openigtlink.server import parse_place
from tests.openigtlink.viewer import Viewer, serving
from tests.waiting import wait_for
from tests.web.views import HEIGHT, MARGIN, WIDTH, contours_of, stills, view

LONG_S = 60.0


def outlined(number: int, **options: object) -> View:
    """A view whose outline does not expire during a test."""
    return view(number, **{"budget_s": LONG_S, "colour": False, **options})  # type: ignore[arg-type]


def test_a_view_is_image_label_map_outline_and_state_with_the_time_of_capture() -> None:
    with serving() as display, Viewer(display.port) as viewer:
        shown = outlined(1)
        captured_ns = time.time_ns() - time.monotonic_ns() + shown.frame.captured_ns  # type: ignore[union-attr]
        display.show(shown)
        messages = [viewer.read() for _ in range(4)]
    assert [m.device for m in messages] == ["Ultrasound", "Labels", "nerve", "State"]
    assert {m.header.sent_ns for m in messages} == {messages[0].header.sent_ns}
    assert abs(messages[0].header.sent_ns - captured_ns) < 5e6
    image, mask, _ = stills()[0][1]
    contours = contours_of(mask)
    assert np.array_equal(messages[0].image, image), "the region, and nothing of the screen around it"
    assert np.array_equal(messages[1].image, mask.astype(np.uint8))
    assert messages[2].counts == (sum(len(contour) for contour in contours), len(contours))
    state = messages[3].state
    assert state["state"] == "nerve"
    assert state["reason"] == ""
    assert state["structures"]["nerve"]["confidence"] == 0.87
    assert state["structures"]["nerve"]["label"] == 1
    assert state["mm_per_pixel"] == list(stills()[1])
    assert "not a medical device" in state["notice"]


def test_other_structures_have_labels_and_outlines_of_their_own() -> None:
    shown = outlined(1)
    found = shown.segmentation
    assert found is not None
    vessel = np.zeros_like(found.mask)
    vessel[MARGIN + 10 : MARGIN + 30, MARGIN + 20 : MARGIN + 50] = True
    vessel |= found.mask
    corner = np.array([[MARGIN + 20, MARGIN + 10], [MARGIN + 49, MARGIN + 29]], np.int32)
    others = {
        "vessel": Structure(vessel, (corner,), 600, None, None, 0.5),
        "artery": Structure(np.zeros_like(vessel), (), 0, None, None, 0.0),
    }
    with serving() as display, Viewer(display.port) as viewer:
        display.show(replace(shown, segmentation=replace(found, others=others)))
        viewer.read_until("State")
    assert [m.device for m in viewer.messages[2:5]] == ["nerve", "artery", "vessel"]
    labels = viewer.shown["Labels"].image
    assert labels[15, 30] == 3
    nerve = found.mask[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert (labels[nerve] == 1).all(), "the nerve lies over the others"
    assert viewer.shown["vessel"].counts == (2, 1)
    assert viewer.shown["artery"].empty
    assert {n: s["label"] for n, s in viewer.shown["State"].state["structures"].items()} == {
        "nerve": 1,
        "artery": 2,
        "vessel": 3,
    }


def test_outlines_leave_before_the_next_image_comes() -> None:
    with serving() as display, Viewer(display.port) as viewer:
        for number in range(1, 8):
            display.show(outlined(number))
            viewer.read_until("State")
        order = [m.device for m in viewer.messages]
    assert order[4:10] == ["Labels", "nerve", "Ultrasound", "Labels", "nerve", "State"]
    # Viewer.check has looked after every single message.


def test_an_outline_that_expires_is_taken_away_although_no_view_comes() -> None:
    with serving() as display, Viewer(display.port) as viewer:
        display.show(outlined(1, age_s=0.0, budget_s=1.0))
        viewer.read_until("nerve")
        began = time.monotonic()
        message = viewer.read_until("State", state="segmentation lagging")
        assert time.monotonic() - began > 0.5
    assert viewer.shown["Labels"].empty
    assert viewer.shown["nerve"].empty
    assert message.state["structures"] == {}
    assert "age budget" in message.state["reason"]


def test_a_view_that_has_expired_before_it_is_sent_has_no_outline() -> None:
    with serving() as display:
        display.show(view(1, age_s=0.9, budget_s=0.1))
        with Viewer(display.port) as viewer:
            viewer.read_until("State", state="segmentation lagging")
    assert [m.device for m in viewer.messages] == ["Ultrasound", "State"]


@pytest.mark.parametrize("state", [State.SOURCE_LOST, State.ENDED])
def test_who_connects_after_the_loss_gets_no_old_image(state: State) -> None:
    with serving() as display:
        display.show(view(1, state, reason="no frame for 0.3 s", age_s=0.3))
        with Viewer(display.port) as viewer:
            message = viewer.read_until("State")
    assert [m.device for m in viewer.messages] == ["State"]
    assert message.state["state"] == state.value
    assert message.state["reason"] == "no frame for 0.3 s"
    assert time.time_ns() - message.header.sent_ns < 60e9


def test_a_frame_that_is_old_whatever_the_state_is_not_sent() -> None:
    with serving() as display:
        display.show(view(1, State.STARTING, age_s=3.0))
        with Viewer(display.port) as viewer:
            viewer.read_until("State", state="starting")
    assert [m.device for m in viewer.messages] == ["State"]


def test_states_without_outline_take_it_away_and_say_why() -> None:
    with serving() as display, Viewer(display.port) as viewer:
        first = outlined(1)
        display.show(first)
        viewer.read_until("State", state="nerve")
        bare = replace(
            first, number=2, state=State.FROZEN, reason="still", segmentation=None, expires_ns=None
        )
        display.show(bare)
        viewer.read_until("State", state="scanner frozen")
    assert viewer.shown["nerve"].empty
    assert [m.device for m in viewer.messages].count("Ultrasound") == 1, "the image is there already"


def test_nothing_is_sent_while_the_image_is_not_found() -> None:
    with serving() as display, Viewer(display.port) as viewer:
        display.show(replace(view(1, State.STARTING, outline=False), roi=None))
        viewer.read_until("State")
    assert [m.device for m in viewer.messages] == ["State"]


def test_the_whole_screen_only_if_asked() -> None:
    with serving(full_frame=True) as display, Viewer(display.port) as viewer:
        display.show(outlined(1, colour=True))
        viewer.read_until("State")
    assert viewer.shown["Ultrasound"].image.shape == (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, 3)
    assert viewer.shown["Labels"].image.shape == (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)


def test_views_that_differ_in_their_figures_only_are_not_sent_again() -> None:
    with serving() as display, Viewer(display.port) as viewer:
        first = outlined(1)
        display.show(first)
        viewer.read_until("State")
        for number in range(2, 10):
            display.show(replace(first, number=number))
        display.show(outlined(20))
        viewer.read_until("Ultrasound")
    assert [m.device for m in viewer.messages[4:]] == ["Labels", "nerve", "Ultrasound"]


def test_a_viewer_that_never_reads_delays_neither_the_loop_nor_another_viewer() -> None:
    with (
        serving() as display,
        Viewer(display.port, receive_buffer=4096) as stuck,
        Viewer(display.port) as viewer,
    ):
        wait_for(lambda: display.viewers == 2, "both viewers")
        slowest = 0.0
        for number in range(1, 31):
            began = time.monotonic()
            display.show(outlined(number))
            slowest = max(slowest, time.monotonic() - began)
            viewer.read_until("State")
        assert viewer.shown["Ultrasound"].header.sent_ns > viewer.messages[0].header.sent_ns
        assert slowest < 5.0, "it waited for the viewer that does not read"
        # It reads at last: whole messages, in order, few old ones and the newest.
        stuck.read_until("State")
        last = viewer.shown["Ultrasound"].header.sent_ns
        while stuck.shown["Ultrasound"].header.sent_ns != last:
            stuck.read()
        images = [m for m in stuck.messages if m.device == "Ultrasound"]
        assert len(images) < 15, "what is not sent is replaced, not queued"


def test_a_viewer_whose_network_is_stuck_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STUCK_S", 0.3)
    said: list[str] = []
    with serving(say=said.append) as display, Viewer(display.port, receive_buffer=4096) as stuck:
        display.show(outlined(1))
        wait_for(lambda: display.viewers == 1, "the viewer")
        wait_for(lambda: display.viewers == 0, "its end")
        got = stuck.read_rest()
    assert "accepted no data for 0.3 s" in said[-1]
    assert [m.device for m in got] in ([], ["Ultrasound"])


def test_the_end_takes_the_outlines_away() -> None:
    display = OpenIGTLinkDisplay(port=0)
    with Viewer(display.port) as viewer:
        display.show(outlined(1))
        viewer.read_until("State")
        display.close()
        display.close()
        display.show(outlined(2))
        rest = viewer.read_rest()
    assert [m.device for m in rest] == ["Labels", "nerve", "State"]
    assert viewer.shown["nerve"].empty
    assert rest[-1].state["state"] == "source ended"
    assert not [t for t in threading.enumerate() if t.name == "streamseg-igtl"]


def test_viewers_come_and_go_and_may_talk() -> None:
    said: list[str] = []
    with serving(viewers=2, say=said.append) as display:
        display.show(outlined(1))
        for _ in range(5):
            with Viewer(display.port) as viewer:
                viewer.socket.sendall(b"GET_IMAGE" * 1000)
                viewer.read_until("State")
            wait_for(lambda: display.viewers == 0, "its leaving")
        with Viewer(display.port) as one, Viewer(display.port) as two:
            one.read_until("State")
            two.read_until("State")
            with socket.create_connection(("127.0.0.1", display.port), timeout=10) as third:
                assert third.recv(1) == b""
            one.socket.close()
            wait_for(lambda: display.viewers == 1, "its leaving")
            with Viewer(display.port) as third_viewer:
                third_viewer.read_until("State")
    assert any("turned away" in line for line in said)


def test_a_server_that_failed_says_so() -> None:
    with serving() as display, Viewer(display.port):
        display._selector.close()
        wait_for(lambda: display._failure, "its end")
        with pytest.raises(SinkError, match="the OpenIGTLink server has ended: "):
            display.show(outlined(1))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("18944", ("127.0.0.1", 18944)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:5", ("::1", 5)),
        ("or-7:18944", ("or-7", 18944)),
    ],
)
def test_places(text: str, place: tuple[str, int]) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "x", "70000", "host:", "a b:1", "-1"])
def test_wrong_places(text: str) -> None:
    with pytest.raises(UsageError, match="give PORT or HOST:PORT"):
        parse_place(text)


def test_a_port_in_use_is_a_usage_error() -> None:
    with serving() as display, pytest.raises(UsageError, match="another program listens there"):
        OpenIGTLinkDisplay(port=display.port)
    with pytest.raises(UsageError, match="no such address"):
        OpenIGTLinkDisplay(host="192.0.2.1", port=0)
