"""Answers and packets are found in the bytes of a connection, however these arrive."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.messages import Answer, Interleaved, MessageParser
from streamseg.core.errors import SourceError

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 4\r\nX: 1\r\nX: 2\r\n\r\nbody"
REQUEST = b"SET_PARAMETER rtsp://host/ RTSP/1.0\r\nCSeq: 9\r\n\r\n"
PACKET = b"$\1\0\5hello"


@given(st.lists(st.integers(1, 40), min_size=1))
def test_messages_survive_any_division(cuts: list[int]) -> None:
    whole = (ANSWER + PACKET + REQUEST + b"\r\n" + PACKET + ANSWER) * 3
    parser = MessageParser()
    found: list[Answer | Interleaved] = []
    place = 0
    while place < len(whole):
        step = cuts[place % len(cuts)]
        parser.feed(whole[place : place + step])
        found += parser.messages()
        place += step
    assert [type(message) for message in found] == [Answer, Interleaved, Interleaved, Answer] * 3
    first, packet = found[0], found[1]
    assert isinstance(first, Answer)
    assert (first.status, first.body, first.headers["x"]) == (200, b"body", ["1", "2"])
    assert (first.header("cseq"), first.header("none")) == ("2", "")
    assert packet == Interleaved(1, b"hello")


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2",
        b"hello",
        b"HTTP/1.1 400 Bad Request\r\nX: 1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
        "RTSP/1.0 200 OK\r\nContent-Length: ²\r\n\r\n".encode(),
        b"RTSP/1.0 200 OK\r\n" + b"A" * 70000,
    ],
)
def test_what_is_no_rtsp_is_told(data: bytes) -> None:
    parser = MessageParser()
    parser.feed(data)
    with pytest.raises(SourceError, match="not RTSP"):
        list(parser.messages())


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    parser = MessageParser()
    parser.feed(ANSWER[:20] + data)
    with suppress(SourceError):
        for message in parser.messages():
            assert isinstance(message, Answer | Interleaved)


@pytest.mark.parametrize(
    ("data", "step"),
    [
        (b"\r\n" * 500_000, 1 << 18),
        (b"$\0\0\0" * 250_000, 1 << 18),
        (b"RTSP/1.0 200 OK\r\n\r\n" * 50_000, 1 << 18),
        (b"A * RTSP/1.0\r\n\r\n" * 60_000, 1 << 18),
        (b"RTSP/1.0 200 OK\r\n" + b"a:b\r\n" * 12_000, 1),
        (b"RTSP/1.0 200 OK\r\nX: " + b"a" * 60_000, 1),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 99999\r\n" + b"a:b\r\n" * 12_000 + b"\r\n" + bytes(20_000), 16),
    ],
)
def test_a_server_that_sends_much_or_slowly_costs_little(data: bytes, step: int) -> None:
    parser = MessageParser()
    began = time.process_time()
    with suppress(SourceError):
        for place in range(0, len(data), step):
            parser.feed(data[place : place + step])
            list(parser.messages())
    assert time.process_time() - began < 0.5  # milliseconds; it was up to 6 s


def test_requests_of_the_server_are_listed() -> None:
    parser = MessageParser()
    parser.feed(REQUEST + PACKET)
    assert list(parser.messages()) == [Interleaved(1, b"hello")]
    assert parser.requests == [("SET_PARAMETER", "9")]
