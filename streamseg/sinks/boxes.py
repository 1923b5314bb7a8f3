"""The outer structure of MP4 and MOV files, as far as needed to cut off an unfinished end."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO


def cut_unfinished(path: Path) -> None:
    """Cut a fragmented MP4 or MOV file behind its last whole fragment. Lets OSError through.

    After a full disk the last box ends in the middle; players cope, but strict readers would report the file
    as damaged. (ISO/IEC 14496-12, 4.2: a box is its size in four bytes, its type in four, and its content;
    size 1 means that the size follows in eight more. A fragment is a ``moof`` box and the ``mdat`` after it.)
    """
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        whole = position = 0
        while (box := _read_box(file, position)) is not None:
            kind, size = box
            position += size
            if position > end:
                break
            if kind != b"moof":
                whole = position
        if 0 < whole < end:
            file.truncate(whole)


def _read_box(file: BinaryIO, position: int) -> tuple[bytes, int] | None:
    """Type and size of the box at a position, or None where there is no whole head of a box."""
    file.seek(position)
    head = file.read(16)
    if len(head) < 8:
        return None
    size, kind = struct.unpack(">I4s", head[:8])
    if size == 1 and len(head) == 16:
        (size,) = struct.unpack(">Q", head[8:])
    return (kind, size) if size >= 8 else None
