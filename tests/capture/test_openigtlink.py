"""``igtl://``: images as servers send them, and servers that do not keep to it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from streamseg.capture import open_source
from streamseg.capture.live import is_live, open_live
from streamseg.capture.openigtlink import Address, OpenIGTLinkSource
from streamseg.core.errors import SourceError, UsageError
from streamseg.live.frame_reader import LatestFrameReader
from streamseg.openigtlink.message import image_body, string_body
from tests.openigtlink.test_message import image_bytes
from tests.waiting import wait_for

GREY = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)


def message(
    data: bytes | None = None,
    *,
    device: str = "Image",
    kind: str = "IMAGE",
    stamp_ns: int | None = None,
    crc: int | None = None,
) -> bytes:
    """A message with this body, an image by default."""
    from fastcrc import crc64

    data = image_body(device, GREY, (0.1, 0.1)).data if data is None else data
    head, _ = string_body(device, "").message(time.time_ns() if stamp_ns is None else stamp_ns)
    right = crc64.ecma_182(data) if crc is None else crc
    return (
        head[:2] + kind.encode().ljust(12, b"\0") + head[14:42] + struct.pack(">QQ", len(data), right) + data
    )


@dataclass
class Server:
    """Sends what it is told to everyone who connects, then keeps silent or closes."""

    sent: list[bytes | Callable[[], bytes] | float]
    """Bytes, what makes them, or seconds to wait."""
    close: bool = False
    port: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"igtl://127.0.0.1:{self.port}"


@contextmanager
def serving(*sent: bytes | Callable[[], bytes] | float, close: bool = False) -> Iterator[Server]:
    server = Server(list(sent), close)
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        try:
            for what in server.sent:
                if isinstance(what, float):
                    ended.wait(what)
                else:
                    connection.sendall(what if isinstance(what, bytes) else what())
            if server.close:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        server.port = listener.getsockname()[1]

        def run() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                server.connections.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            thread.join(10)
            for connection in server.connections:
                connection.close()


def opened(server: Server, suffix: str = "", **options: float) -> OpenIGTLinkSource:
    return OpenIGTLinkSource(server.url + suffix, **{"open_seconds": 30.0, **options})  # type: ignore[arg-type]


def test_frames_of_the_first_device_with_its_spacing() -> None:
    other = image_body("Labels", np.zeros((3, 3), np.uint8), (0.1, 0.1)).data
    with (
        serving(
            message(b"\0\3\0\2hi", kind="STRING", device="State"),
            message(),
            message(other, device="Labels"),
            message(image_body("Image", np.dstack([GREY, GREY, GREY * 0]), (0.2, 0.2)).data),
        ) as server,
        opened(server) as source,
    ):
        first, second = next(source), next(source)
    assert source.live
    assert (source.info.height, source.info.width) == (48, 64)
    assert source.info.name == f"127.0.0.1-{server.port}"
    assert np.array_equal(first.image, GREY)
    assert first.spacing_mm == pytest.approx((0.1, 0.1))
    assert np.array_equal(second.image, np.dstack([GREY, GREY, GREY * 0]))
    assert second.spacing_mm == pytest.approx((0.2, 0.2))
    assert [first.index, second.index] == [0, 1]
    assert not first.image.flags.writeable


def test_the_device_that_is_asked_for() -> None:
    wanted = image_body("B", GREY[:10], (0.1, 0.1)).data
    with serving(message(device="A"), message(wanted, device="B")) as server, opened(server, "/B") as source:
        assert next(source).image.shape == (10, 64)
    missing = r"no image of B within 0\.3 s; the server sends A, C"
    with (
        serving(message(device="A"), message(device="C")) as server,
        pytest.raises(SourceError, match=missing),
    ):
        opened(server, "/B", open_seconds=0.3)


def test_pixels_that_are_not_square_are_made_so() -> None:
    with serving(message(image_body("Image", GREY, (0.1, 0.2)).data)) as server, opened(server) as source:
        frame = next(source)
    assert frame.image.shape == (48, 128)
    assert frame.spacing_mm == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("endian", [1, 2])
def test_sixteen_bits_are_scaled_by_the_largest_value_so_far(endian: int) -> None:
    def sent(*values: int) -> bytes:
        samples = np.array(values, f"{'>' if endian == 1 else '<'}u2").tobytes()
        return message(image_bytes(samples, size=(2, 1, 1), scalar=5, endian=endian, steps=(0.1, 0.1)))

    with serving(sent(10, 200), sent(10, 4095), sent(16, 160)) as server, opened(server) as source:
        images = [next(source).image.tolist() for _ in range(3)]
    assert images == [[[10, 200]], [[0, 255]], [[1, 10]]]


def test_damaged_messages_are_left_out_and_counted() -> None:
    broken = message(crc=7)
    with serving(broken, message(), broken, broken, message()) as server, opened(server) as source:
        assert [next(source).index, next(source).index] == [0, 1]
        assert source.damaged == 3
    says = r"no intact image for 0\.5 s: 2 had a wrong checksum"
    with serving(broken, broken) as server, pytest.raises(SourceError, match=says):
        opened(server, open_seconds=0.5)


def test_a_message_of_version_3() -> None:
    inner = image_body("Image", GREY, (0.1, 0.1)).data
    whole = message(struct.pack(">HHII", 12, 2, 0, 1) + inner + b"\0\0")
    with serving(struct.pack(">H", 2) + whole[2:]) as server, opened(server) as source:
        assert np.array_equal(next(source).image, GREY)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ((message(image_bytes(bytes(24), scalar=10)),), "Image sends 1 values of float32 a pixel"),
        ((message(image_bytes(bytes(6), size=(60_000, 60_000, 1))),), "the limit is 17 megapixels"),
        ((message(image_bytes(bytes(18), size=(3, 2, 3))),), "make it send single slices"),
        ((message()[:42] + b"\x7f" + message()[43:],), "sends a message of 9151314442816"),
        ((b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n",), "not OpenIGTLink"),
    ],
)
def test_what_cannot_be_read_is_named(sent: tuple[bytes, ...], says: str) -> None:
    with serving(*sent) as server, pytest.raises(SourceError, match=says) as caught:
        opened(server)
    assert str(caught.value).startswith(f"{server.url}: ")
    assert "\n" not in str(caught.value)


def test_a_silent_server_and_one_without_images() -> None:
    with serving() as server, pytest.raises(SourceError, match="connected, but no image came within"):
        opened(server, open_seconds=0.2)
    waits: list[str] = []
    with serving(message(b"\0\3\0\0", kind="STRING")) as server, pytest.raises(SourceError, match="no image"):
        OpenIGTLinkSource(server.url, open_seconds=0.3, on_wait=waits.append)
    assert waits == ["the server sends messages; waiting for an image"]
    with pytest.raises(SourceError, match="cannot connect: Connection refused; is the server on"):
        OpenIGTLinkSource(server.url)


@pytest.mark.parametrize("rest", [b"", message()[:30], message()[:1000]], ids=["between", "header", "body"])
def test_a_cut_connection_comes_after_the_frames_before_it(rest: bytes) -> None:
    with serving(message(), message(), rest, close=True) as server, opened(server) as source:
        next(source)
        next(source)
        with pytest.raises(SourceError, match="the server closed the connection"):
            next(source)


def test_silence_and_a_trickle_are_losses() -> None:
    with serving(message(), message()[:1000]) as server, opened(server, read_seconds=0.3) as source:
        next(source)
        with pytest.raises(SourceError, match=r"no image for 0\.3 s"):
            next(source)
    drops: list[bytes | float] = [message()[:500]]
    for byte in message()[500:520]:
        drops += [bytes([byte]), 0.05]
    with serving(message(), *drops) as server, opened(server, read_seconds=0.4) as source:
        next(source)
        with pytest.raises(SourceError, match=r"no image for 0\.4 s"):
            next(source)


def test_close_ends_a_wait() -> None:
    with serving(message()) as server, opened(server, read_seconds=60.0) as source:
        next(source)
        threading.Timer(0.1, source.close).start()
        assert next(source, None) is None
        assert next(source, None) is None


def test_on_this_machine_the_time_stamp_is_the_capture() -> None:
    with serving(lambda: message(stamp_ns=time.time_ns() - 300_000_000)) as server, opened(server) as source:
        frame = next(source)
        age = time.monotonic_ns() - frame.captured_ns
    assert source.info.clock == "driver"
    assert 300_000_000 <= age < 60e9


def test_without_time_stamps_frames_have_no_time_and_count_from_arrival() -> None:
    began = time.monotonic_ns()
    with serving(message(stamp_ns=0)) as server, opened(server) as source:
        frame = next(source)
    assert frame.pts_seconds is None
    assert frame.captured_ns >= began
    assert source.info.clock == "arrival"


@pytest.mark.parametrize("off_s", [-3600, 5, 3600])
def test_a_clock_that_is_not_ours_is_not_believed(off_s: int) -> None:
    def sent() -> bytes:
        return message(stamp_ns=time.time_ns() + off_s * 1_000_000_000)

    began = time.monotonic_ns()
    with serving(sent) as server, opened(server) as source:
        frame = next(source)
    assert frame.captured_ns >= began, "it counts from arrival"
    assert source.info.clock == "arrival"
    assert "clock is" in source.clock_note


def test_a_late_frame_is_known_to_be_late_without_a_shared_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamseg.capture.openigtlink._is_this_machine", lambda connection: False)
    stamps = [1_000_000_000 + number * 40_000_000 for number in range(12)]
    pieces: list[bytes | float] = []
    for number, stamp in enumerate(stamps):
        pieces += [message(stamp_ns=stamp), 0.6 if number == 5 else 0.04]
    with serving(*pieces) as server, opened(server) as source:
        ages = []
        for _ in stamps:
            frame = next(source)
            ages.append((time.monotonic_ns() - frame.captured_ns) / 1e9)
    assert source.info.clock == "arrival"
    assert ages[6] - ages[4] > 0.3, "it came half a second later than its stamp lets expect"


def test_the_reader_opens_it_again() -> None:
    with serving(message(), close=True) as server:
        reader = LatestFrameReader(
            lambda: OpenIGTLinkSource(server.url), reconnect=True, retry_delays_s=(0.01,)
        )
        reader.start()
        try:
            wait_for(lambda: reader.status.reconnects >= 2, "two more openings")
        finally:
            reader.close()
    assert reader.error is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("igtl://or-7", Address("or-7", 18944)),
        (" IGTL://10.0.0.5:23338/Image_Reference ", Address("10.0.0.5", 23338, "Image_Reference")),
        ("igtl://[::1]:9/a?clock=shared", Address("::1", 9, "a", True)),
        ("igtl://h:1/?clock=shared", Address("h", 1, "", True)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert is_live(text)


@pytest.mark.parametrize(
    "text",
    [
        "igtl://",
        "igtl://h:0",
        "igtl://h:70000",
        "igtl://u:p@h",
        "igtl://h/a b",
        "igtl://h?clock=maybe",
        "igtl://h\n:1",
    ],
)
def test_wrong_addresses_are_usage_errors_that_do_not_repeat_them(text: str) -> None:
    with pytest.raises(UsageError, match="not an OpenIGTLink address; write igtl://HOST:PORT") as caught:
        open_live(text)
    assert "u:p" not in str(caught.value)


def test_replay_says_that_only_live_opens_it() -> None:
    with pytest.raises(UsageError, match="only 'streamseg live' does"):
        open_source("igtl://127.0.0.1:1")
    with pytest.raises(UsageError):
        open_source(Path("igtl://127.0.0.1:1").as_posix())
