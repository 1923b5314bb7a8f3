"""Text from outside on a terminal: no escape sequences, no passwords, and quickly so."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.core.errors import SourceError, first_line, one_line
from streamseg.core.printable import printable, without_logins


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe 5 µm: 超音波\tend\n", "Größe 5 µm: 超音波\tend\n"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b31mred\x9b0m", "\\x9b31mred\\x9b0m"),
        ("over\rwritten\x08\x7f", "over\\x0dwritten\\x08\\x7f"),
        ("evil\u202egpj.exe\u2066", "evil\\u202egpj.exe\\u2066"),
        ("two\u2028lines\x85\x0b\x0c", "two\\u2028lines\\x85\\x0b\\x0c"),
        ("not UTF-8 \udcff", "not UTF-8 \\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("👩‍⚕️", "👩‍⚕️"),  # joined by a character of no width, as in many languages
        ("cannot open rtsp://me:s3cret@host/x?", "cannot open rtsp://host/x?"),
        ("' rtsp://me:s3/cr@et@host/x'", "' rtsp://host/x'"),
        ("no file rtsp:/me:s3cret@host/x", "no file rtsp:host/x"),
        ("no file RTSP:me:s3cret@host", "no file RTSP:host"),
        ("a mail to me@example.org", "a mail to me@example.org"),
        ("clip@2x.mp4", "clip@2x.mp4"),
    ],
)
def test_printable_text(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert one_line(text) == " ".join(printable(" ".join(text.split())).split())


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert all(char in "\t\n" or not (ord(char) < 32 or 127 <= ord(char) < 160) for char in shown)
    assert printable(shown) == shown
    shown.encode()


def test_messages_of_errors_are_printable() -> None:
    said = "RTSP/1.0 404 \x1b[2J\r\nnot\x00 here"
    assert one_line(SourceError(said)) == first_line(SourceError(said.replace("\r\n", " ")))
    assert "\x1b" not in one_line(said)
    assert one_line(said, 12) == "RTSP/1.0 404"


@pytest.mark.parametrize("part", ["rtsp:", "a", "@", "://", "rtsp://", "a@", "\x1b", "x ", "://@"])
def test_a_megabyte_takes_no_time(part: str) -> None:
    text = part * (1_000_000 // len(part))
    began = time.thread_time()
    without_logins(text + "@ x")
    assert time.thread_time() - began < 2  # it would be minutes
