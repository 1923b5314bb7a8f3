"""Makes text from outside safe to print: file names, DICOM text, servers' answers, libraries' messages.

A terminal obeys escape sequences (it renames its window, fills the clipboard, repaints lines), and an address
may hold a password. Every message and line of output passes :func:`printable`.
"""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1: escape sequences begin with these
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they change the direction of text, and so its order
    "\u2028\u2029\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"  # lines, annotations, surrogates, tags
)
_WORD = re.compile(r"[^\s'\"<>]+")
_BARE_LOGIN = re.compile(
    r"\b((?:rtsp|rtmp|http)s?|ftp|srt|udp|mms|ws|wss):/?(?!/)[^\s'\"<>]{0,500}@", re.IGNORECASE
)
"""A login after a mistyped ``rtsp:/`` or ``rtsp:``, which is taken for the name of a file."""


def printable(text: object) -> str:
    """Text without control characters (``\\x1b`` instead), save tab and newline, and without logins."""
    return _CONTROLS.sub(_escape, without_logins(str(text)))


def without_logins(text: str) -> str:
    """Text in which no address has a user or password: ``rtsp://u:p@host/`` becomes ``rtsp://host/``."""
    return _BARE_LOGIN.sub(r"\1:", _WORD.sub(_hide_login, text)) if "@" in text else text


def _hide_login(found: re.Match[str]) -> str:
    """A word of the text without the part between ``://`` and the last ``@``."""
    word = found[0]
    start, end = word.find("://"), word.rfind("@")
    return word[: start + 3] + word[end + 1 :] if 0 < start < end else word


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
