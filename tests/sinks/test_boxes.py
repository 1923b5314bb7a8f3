import struct

import pytest

from streamseg.sinks.encoder import cut_unfinished


def box(kind: bytes, content: bytes, *, long: bool = False) -> bytes:
    if long:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


HEAD = box(b"ftyp", b"isom") + box(b"moov", b"x" * 20)
FRAGMENT = box(b"moof", b"y" * 30) + box(b"mdat", b"z" * 50)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (HEAD + FRAGMENT + FRAGMENT, 2),
        (HEAD + FRAGMENT + FRAGMENT[:-1], 1),
        (HEAD + FRAGMENT + FRAGMENT[:38], 1),  # The fragment's head is whole, its data missing.
        (HEAD + FRAGMENT + FRAGMENT[:5], 1),
        (HEAD + FRAGMENT[:60], 0),
        (HEAD + FRAGMENT + box(b"moov", b"x" * 100)[:90], 1),
    ],
)
def test_whole_fragments_are_kept(tmp_path, content, kept):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    cut_unfinished(path)
    assert path.read_bytes() == HEAD + kept * FRAGMENT


def test_long_sizes_are_understood(tmp_path):
    path = tmp_path / "a.mp4"
    whole = HEAD + box(b"mdat", b"z" * 40, long=True)
    path.write_bytes(whole + box(b"mdat", b"z" * 40, long=True)[:-3])
    cut_unfinished(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"abc", b"\0" * 64, b"not a video at all, but long enough"])
def test_what_is_not_such_a_file_stays(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    cut_unfinished(path)
    assert path.read_bytes() == content
