"""Detects truncated recordings by the sizes that containers state.

FFmpeg often reads a cut file as a shorter one. Each function here walks the outermost elements of one
container and compares their sizes with the size of the file. True: cut. False: complete, or recorded live
without a size. None: the format states no size. An unknown element gives False, so that an intact file is
never called cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from streamseg.core.numbers import read_integer

_MAX_ELEMENTS = 2_000_000
_MAX_TOP_LEVEL = 64
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_SEGMENT_PARTS = (0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367)
_CLUSTER_PARTS = (0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF)
_EBML_HEADER, _VOID, _CHECKSUM = 0x1A45DFA3, 0xEC, 0xBF
_MATROSKA_ELEMENTS = frozenset(
    (_EBML_HEADER, _SEGMENT, *_SEGMENT_PARTS, _CLUSTER, *_CLUSTER_PARTS, _VOID, _CHECKSUM)
)
_AVI_HEADER = 1 << 16
_FLV_MARK, _FLV_TAGS = b"FLV", (8, 9, 18)
_TS_PIECE = 1 << 14
_TS_SEARCH, _TS_MARK = 4096, 0x47
_TS_PACKET_LENGTHS = (188, 192, 204)
_PACK, _PROGRAM_END = b"\0\0\1\xba", b"\0\0\1\xb9"
_PACK_SEARCH = 1 << 18
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MXF_KEY = b"\x06\x0e\x2b\x34"
_STARTS = {
    b"RIFF": "avi",
    b"\x1a\x45\xdf\xa3": "matroska",
    b"FLV\x01": "flv",
    b"GIF8": "gif",
    _ASF_HEADER[:4]: "asf",
    _MXF_KEY: "mxf",
}
"""First bytes of files, and FFmpeg's names of their formats."""
_MXF_RUN_IN = 1 << 16
_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = 0x2C, 0x21, 0x3B
_IVF_START, _IVF_HEADER, _IVF_FRAME = b"DKIF", 32, 12
_NUT_START = b"nut/multimedia container\0"
_Y4M_START, _Y4M_LINE = b"YUV4MPEG2 ", 256
_MAX_INDEX = 64 << 20
_PIECE = 1 << 20
_Y4M_PLANES = {"420": 1.5, "422": 2.0, "444": 3.0, "411": 1.5, "mono": 1.0}
_MP4_BOXES = frozenset(
    b"ftyp styp moov moof mdat free skip wide uuid meta udta sidx ssix emsg mfra pdin prft".split()
)


def is_cut(path: Path, format_name: str) -> bool | None:
    """Whether the file ends before its container does. ``format_name`` is FFmpeg's. Raises OSError."""
    for key, check in _CHECKS.items():
        if key in format_name.split(","):
            with path.open("rb") as file:
                return check(file, os.fstat(file.fileno()).st_size)
    return None


def container_of(path: Path) -> str | None:
    """FFmpeg's name of the container, from the first bytes, even if FFmpeg fails on it. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] == b"ftyp":
        return "mp4"
    return _STARTS.get(head[:4])


def _mp4_is_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position >= size:
            break
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return any(head)  # cut inside a box's head, unless it is padding
        length = int.from_bytes(head[:4], "big")
        if length == 0:  # extends to the end of the file
            return False
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or head[4:8] not in _MP4_BOXES:
            return False
        position += length
    return position > size


def _avi_is_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position + 8 > size:
            break
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # the recorder never filled it in
            return False
        position += 8 + length
    # Chunks are padded to even sizes, and some writers omit the last padding byte. The number of frames in
    # the header is no evidence: grabbers that repeat frames as empty chunks, and recorders that fill in what
    # they expected, count more frames than there are.
    return position > size + 1 or _avi_index_points_beyond(file, size)


def _avi_index_points_beyond(file: BinaryIO, size: int) -> bool:
    """Whether an OpenDML index lists parts after the end of the file: a cut between two RIFFs."""
    file.seek(0)
    head = file.read(_AVI_HEADER)
    at = head.find(b"indx")
    if at < 0 or head[at + 11 : at + 12] != b"\0":  # not an index of indexes
        return False
    count = int.from_bytes(head[at + 12 : at + 16], "little")
    for entry in range(at + 32, min(at + 32 + 16 * count, len(head) - 15), 16):
        offset, length = (int.from_bytes(head[entry + a : entry + b], "little") for a, b in ((0, 8), (8, 12)))
        if offset + length > size + 1:
            return True
    return False


def is_joined(path: Path, format_name: str) -> bool:
    """Whether a Matroska file holds several segments, as files joined by `cat` do. Raises OSError."""
    if "matroska" not in format_name:
        return False
    with path.open("rb") as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        for _ in range(_MAX_TOP_LEVEL):
            file.seek(position)
            element = _ebml_element(file)
            if position >= size or element is None or element[1] is None:
                return False
            if position and element[0] == _EBML_HEADER:
                return True
            position += element[2] + element[1]
    return False


def has_second_file(path: Path, format_name: str) -> bool:
    """Whether an MP4, FLV or ASF file has another one after it, which FFmpeg does not read. Raises OSError.

    Files of these kinds cannot be joined by `cat`: the first index, or header, counts alone.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if "mp4" in format_name.split(","):
            return _mp4_has_second(file, size)
        if format_name == "asf":
            return any(kind == _ASF_HEADER for kind, at, _ in _asf_objects(file, size) if at > 0)
        return format_name == "flv" and _flv_has_second(file, size)


def end_of_first(path: Path) -> int | None:
    """Where a second IVF, NUT or YUV4MPEG file begins in a file of such ones joined by `cat`. Raises OSError.

    FFmpeg reads on across the joint, and takes the second header for a frame or mixes their times.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(len(_NUT_START))
        if head.startswith(_IVF_START):
            return _second_ivf(file, size)
        if head.startswith(_Y4M_START):
            return _second_y4m(file, size)
        return _find_again(file, _NUT_START) if head == _NUT_START else None


def _second_ivf(file: BinaryIO, size: int) -> int | None:
    position = _IVF_HEADER
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        head = file.read(_IVF_FRAME)  # a frame's length and time
        if head.startswith(_IVF_START):
            return position
        position += _IVF_FRAME + int.from_bytes(head[:4], "little")
        if position >= size:
            return None
    return None


def _second_y4m(file: BinaryIO, size: int) -> int | None:
    file.seek(0)
    length = _y4m_frame(file.readline(_Y4M_LINE))
    position = file.tell()
    for _ in range(_MAX_ELEMENTS if length else 0):
        file.seek(position)
        mark = file.readline(_Y4M_LINE)
        if position and mark.startswith(_Y4M_START):
            return position
        position += len(mark) + (length or 0)
        if position >= size or not mark.startswith(b"FRAME"):
            return None
    return None


def _find_again(file: BinaryIO, start: bytes) -> int | None:
    """Where the bytes with which a file starts come again."""
    before, position = b"", 1
    file.seek(position)
    while piece := file.read(_PIECE):
        at = (before + piece).find(start)
        if at >= 0:
            return position - len(before) + at
        position += len(piece)
        before = piece[-len(start) + 1 :]
    return None


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 file's video is encrypted (ISO/IEC 23001-7), by its sample entry. Raises OSError."""
    with path.open("rb") as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        for _ in range(_MAX_ELEMENTS):
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
            if head[4:8] == b"moov":
                file.seek(position)
                return b"encv" in file.read(min(length, _MAX_INDEX))
            if length < 8 or position + length >= size:
                return False
            position += length
    return False


def _mp4_has_second(file: BinaryIO, size: int) -> bool:
    position = 0
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if position and head[4:8] == b"ftyp":
            return True
        if length < 8 or position + length >= size:
            return False
        position += length
    return False


def _flv_has_second(file: BinaryIO, size: int) -> bool:
    position = 9
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        head = file.read(8)  # the size of the tag before, then a tag's kind and size
        if head[4:7] == _FLV_MARK:
            return True
        if len(head) < 8 or head[4] & 0x1F not in _FLV_TAGS:
            return False
        position += 4 + 11 + int.from_bytes(head[5:8], "big")
        if position >= size:
            return False
    return False


def _asf_objects(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """GUID, offset and length of the outermost objects of an ASF (WMV) file."""
    position = 0
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        head = file.read(24)
        length = int.from_bytes(head[16:], "little")
        if len(head) < 24 or length < 24:  # the end, padding, or a broadcast that states no length
            return
        yield head[:16], position, length
        position += length
        if position >= size:
            return


def _asf_is_cut(file: BinaryIO, size: int) -> bool:
    return any(at + length > size for _, at, length in _asf_objects(file, size))


def _flv_is_cut(file: BinaryIO, size: int) -> bool:
    position = 9
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        head = file.read(15)  # the size of the tag before, then a tag's head
        if len(head) < 15:
            return any(head[4:]) or 0 < len(head) < 4
        if head[4] & 0x1F not in _FLV_TAGS:
            return False
        position += len(head) + int.from_bytes(head[5:8], "big")
        if position > size:
            return True
    return False


def _gif_is_cut(file: BinaryIO, size: int) -> bool:
    head = file.read(13)
    position = 13 + _gif_colours(head[10:11])
    for _ in range(_MAX_ELEMENTS):
        file.seek(position)
        block = file.read(11)
        if not block or block[0] not in (_GIF_IMAGE, _GIF_EXTENSION):
            return False  # the end mark, which some writers omit, or something unknown
        position += 2
        if block[0] == _GIF_IMAGE:
            position += 9 + _gif_colours(block[9:10])
        length = 1
        while length:  # sub-blocks of at most 255 bytes, up to an empty one
            file.seek(position)
            length = file.read(1)[0] if position < size else -1
            if length < 0:
                return True
            position += 1 + length
    return False


def _gif_colours(flags: bytes) -> int:
    """Bytes of the colour table that flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _mxf_is_cut(file: BinaryIO, size: int) -> bool:
    position = file.read(_MXF_RUN_IN).find(_MXF_KEY)
    for _ in range(_MAX_ELEMENTS):
        if position < 0 or position >= size:
            break
        file.seek(position)
        head = file.read(25)  # a key of 16 bytes and a length of 1 to 9 (SMPTE 336M)
        if not head.startswith(_MXF_KEY):
            return False
        extra = head[16] & 0x7F if len(head) > 16 and head[16] & 0x80 else 0
        if len(head) < 17 + extra or extra > 8:
            return extra <= 8
        length = int.from_bytes(head[17 : 17 + extra], "big") if extra else head[16]
        position += 17 + extra + length
    return position > size


def _y4m_frame(header: bytes) -> int | None:
    """Bytes of a YUV4MPEG frame after its mark, by the first line of the file; None if unknown."""
    fields = {field[:1]: field[1:] for field in header.decode("ascii", "replace").split()[1:]}
    width, height = (read_integer(fields.get(name, ""), 1, 1 << 20) for name in "WH")
    colours = fields.get("C", "420")
    planes = next((share for name, share in _Y4M_PLANES.items() if colours.startswith(name)), None)
    if not width or not height or not planes or width % 2 or height % 2:
        return None
    return int(width * height * planes) * (2 if "p1" in colours else 1)


def _y4m_is_cut(file: BinaryIO, size: int) -> bool | None:
    frame = _y4m_frame(file.readline(_Y4M_LINE))
    start, mark = file.tell(), file.readline(_Y4M_LINE)
    if frame is None or not mark.startswith(b"FRAME"):
        return None
    length = len(mark) + frame
    whole = (size - start) // length
    file.seek(start + whole * length)
    rest = file.read(len(mark))
    return (bool(rest) and mark.startswith(rest[: len(mark)])) or None


def has_broken_structure(path: Path, format_name: str) -> bool:
    """Whether a transport stream or Matroska file has gaps between its elements. Raises OSError.

    FFmpeg skips unknown bytes to the next element that it knows, and does not report the frames between.
    This reads a transport stream once more, and the head of every block of Matroska.
    """
    with path.open("rb") as file:
        if format_name == "mpegts":
            return _ts_is_broken(file)
        if "matroska" in format_name:
            return _matroska_is_broken(file, os.fstat(file.fileno()).st_size)
    return False


def _ts_is_broken(file: BinaryIO) -> bool:
    grid = _ts_grid(file.read(_TS_SEARCH))
    if grid is None:
        return True
    start, length = grid
    file.seek(start)
    # Read, not mapped: a file that another program shortens meanwhile would kill this one (SIGBUS).
    while piece := file.read(_TS_PIECE * length):
        if bool((np.frombuffer(piece, np.uint8)[::length] != _TS_MARK).any()):
            return True
    return False


def _matroska_is_broken(file: BinaryIO, size: int) -> bool:
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position >= size:
            break
        file.seek(position)
        element = _ebml_element(file)
        if element is None or element[0] not in _MATROSKA_ELEMENTS:
            # Padding after the end is common and harmless.
            return _holds_data(file, position) if element is None else True
        identity, length, head = element
        entered = identity in (_SEGMENT, _CLUSTER)
        position += head if entered else head + (length or 0)
    return False


def _holds_data(file: BinaryIO, position: int) -> bool:
    """Whether any byte from a position on is not zero."""
    file.seek(position)
    return any(any(piece) for piece in iter(lambda: file.read(_PIECE), b""))


def _ts_is_cut(file: BinaryIO, size: int) -> bool | None:
    grid = _ts_grid(file.read(_TS_SEARCH))
    if grid is None:
        return None
    start, length = grid
    time_code = 4 if length == 192 else 0  # precedes the mark
    # Whole packets prove nothing: the last frame in them may be incomplete.
    return True if (size - start + time_code) % length else None


def _ts_grid(head: bytes) -> tuple[int, int] | None:
    """Offset of the first packet's sync byte, and the packet length."""
    for length in _TS_PACKET_LENGTHS:
        for start in range(min(length, len(head))):
            marks = head[start::length]
            if len(marks) >= 3 and marks == bytes([_TS_MARK]) * len(marks):
                return start, length
    return None


def _matroska_is_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position >= size:
            break
        file.seek(position)
        element = _ebml_element(file)
        if element is None:
            return size - position < 12  # cut inside an element's own head
        identity, length, head = element
        if length is None:
            # Streamed: the segment, and perhaps its clusters, state no size and are entered.
            if identity not in (_SEGMENT, _CLUSTER):
                break
            position += head
            continue
        position += head + length
        if identity == _SEGMENT:
            break
    return position > size


def _ebml_element(file: BinaryIO) -> tuple[int, int | None, int] | None:
    """ID, size (None: unknown) and header length of the element here, or None if there is none."""
    first = file.read(1)
    id_length = 9 - first[0].bit_length() if first else 9
    if id_length > 4:
        return None
    identity = first + file.read(id_length - 1)
    mark = file.read(1)
    size_length = 9 - mark[0].bit_length() if mark else 9
    if size_length > 8 or len(identity) < id_length:
        return None
    rest = file.read(size_length - 1)
    if len(rest) < size_length - 1:
        return None
    unknown = (1 << (7 * size_length)) - 1
    length = int.from_bytes(mark + rest, "big") & unknown
    return int.from_bytes(identity, "big"), None if length == unknown else length, id_length + size_length


def _program_stream_is_cut(file: BinaryIO, size: int) -> bool | None:
    # Packs form a chain without an index, so it is enough to walk from one near the end.
    file.seek(max(0, size - _PACK_SEARCH))
    tail = file.read()
    position = tail.find(_PACK)
    while 0 <= position < len(tail):
        head = tail[position : position + 14]
        if head[:4] == _PROGRAM_END:
            return False
        if head[:3] != _PACK[:3] or head[3] < 0xBA or len(head) < 6:
            return None
        if head[:4] != _PACK:
            position += 6 + int.from_bytes(head[4:6], "big")
        else:  # a pack's head is 12 bytes in MPEG-1; in MPEG-2 it is 14 and states its stuffing
            position += 14 + (head[-1] & 7) if head[4] >> 6 == 1 else 12
    return True if position > len(tail) else None


_CHECKS: dict[str, Callable[[BinaryIO, int], bool | None]] = {
    "mp4": _mp4_is_cut,
    "avi": _avi_is_cut,
    "mpegts": _ts_is_cut,
    "matroska": _matroska_is_cut,
    "mpeg": _program_stream_is_cut,
    "flv": _flv_is_cut,
    "asf": _asf_is_cut,
    "gif": _gif_is_cut,
    "mxf": _mxf_is_cut,
    "yuv4mpegpipe": _y4m_is_cut,
}
