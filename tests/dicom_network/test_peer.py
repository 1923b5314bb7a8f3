"""Addresses of DICOM applications are read strictly."""

import pytest

from streamseg.core.errors import UsageError
from streamseg.dicom_network.peer import Peer, checked_title


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("PACS@10.0.0.5:104", Peer("PACS", "10.0.0.5", 104)),
        ("MY PACS@archive.example:11112", Peer("MY PACS", "archive.example", 11112)),
        ("A@[::1]:4242", Peer("A", "::1", 4242)),
    ],
)
def test_addresses(text: str, peer: Peer) -> None:
    assert Peer.parse(text) == peer
    assert str(peer) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "PACS", "PACS@host", "@host:104", "PACS@:104", "PACS@host:0", "PACS@host:70000", "PACS@host:x"),
        *("SEVENTEEN_LETTERS@host:104", "A\\B@host:104", " A@host:104", "Ä@host:104", "A@B@host:104"),
        *("A@::1:104", "A\n@host:104"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Peer.parse(text)


@pytest.mark.parametrize("title", ["A", "SCANNER 1", "x" * 16])
def test_titles(title: str) -> None:
    assert checked_title(title) == title
