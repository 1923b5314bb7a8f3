"""Addresses of DICOM applications, ``AET@HOST:PORT``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamseg.core.errors import UsageError
from streamseg.core.numbers import read_integer

OWN_TITLE = "STREAMSEG"
VERIFICATION = "1.2.840.10008.1.1"
"""SOP class of C-ECHO (PS3.4, annex A)."""
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
_ADDRESS = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^\]@]+\]|[^@:\s\[\]]+):(?P<port>[0-9]+)")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application: its AE title and where it listens."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read ``AET@HOST:PORT``; an IPv6 address stands in brackets. Raises UsageError."""
        found = _ADDRESS.fullmatch(text)
        port = read_integer(found["port"], 1, 65535) if found else None
        if found is None or port is None:
            raise UsageError(f"{text!r} is not AET@HOST:PORT, such as PACS@192.168.1.20:104")
        return cls(checked_title(found["title"]), found["host"].strip("[]"), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


def checked_title(text: str) -> str:
    """An AE title (PS3.5, 6.2): 1 to 16 printable characters of ASCII, no backslash. Raises UsageError."""
    if not _TITLE.fullmatch(text):
        raise UsageError(f"{text!r} is not an AE title; give 1 to 16 ASCII characters without backslash")
    return text
