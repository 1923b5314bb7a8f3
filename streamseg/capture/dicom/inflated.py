"""The data set of a deflated DICOM file, inflated piece by piece as it is read."""

from __future__ import annotations

import zlib
from typing import BinaryIO

_PACKED, _PIECE = 1 << 16, 1 << 20


class InflatedFile:
    """A read-only file of inflated data that never holds more than a piece of it: 1 MB may inflate to 1 GB.

    Going back by more than the piece inflates again from the beginning. Raises zlib.error on damaged data.
    """

    def __init__(self, file: BinaryIO, start: int) -> None:
        """``file`` holds raw deflate data from ``start`` on."""
        self._file, self._start = file, start
        self._position = 0
        self._rewind()

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; fewer at the end."""
        parts: list[bytes] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted > 0 and self._reach(self._position):
            at = self._position - self._piece_at
            part = self._piece[at : at + wanted]
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset from the beginning, or with ``whence`` 1 from here."""
        self._position = max(0, offset + (self._position if whence == 1 else 0))
        return self._position

    def tell(self) -> int:
        return self._position

    def _rewind(self) -> None:
        self._file.seek(self._start)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._piece, self._piece_at = b"", 0

    def _reach(self, position: int) -> bool:
        """Make the piece hold a position. False: it is after the end."""
        if position < self._piece_at:
            self._rewind()
        while position >= self._piece_at + len(self._piece):
            piece = b""
            while not piece and not self._inflate.eof:
                packed = self._inflate.unconsumed_tail or self._file.read(_PACKED)
                piece = self._inflate.decompress(packed, _PIECE)
                if not packed and not piece:
                    return False
            if not piece:
                return False
            self._piece_at += len(self._piece)
            self._piece = piece
        return True
