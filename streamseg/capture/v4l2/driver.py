"""One open V4L2 device.

Calls the C library through ctypes, as FFmpeg does, on a non-blocking descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

from streamseg.capture.v4l2.structs import (
    CAPTURE,
    CAPTURE_MPLANE,
    DQEVENT,
    MAX_PLANES,
    MEMORY_MMAP,
    QUERYBUF,
    REQBUFS,
    STREAMOFF,
    Buffer,
    Event,
    Plane,
    RequestBuffers,
)
from streamseg.core.errors import SourceError

_MAX_INTERRUPTIONS = 1000
"""Signals in a row that may interrupt a request; a driver that always says so would hold us for ever."""
_MAP_FAILED = ctypes.c_void_p(-1).value
_OPEN_FLAGS = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


_NO_ANSWER = frozenset((errno.EINVAL, errno.ENOTTY, errno.ENODATA, errno.ENOSYS, errno.EOPNOTSUPP))
"""Errors by which drivers say that they lack a request, or that a list has ended."""


class _PollDescriptor(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class DriverError(OSError):
    """A request failed; ``errno`` says how."""


@functools.cache
def _libc() -> Any:
    if sys.platform != "linux":
        raise SourceError(f"frame grabbers are read through Video4Linux, which {sys.platform} does not have")
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("open64", "mmap64"):  # the names with 64-bit offsets, if the C library has them
        if not hasattr(libc, name):
            setattr(libc, name, getattr(libc, name.removesuffix("64")))
    size, number = ctypes.c_size_t, ctypes.c_int
    libc.open64.argtypes = (ctypes.c_char_p, number, number)
    libc.mmap64.argtypes = (ctypes.c_void_p, size, number, number, number, ctypes.c_int64)
    libc.mmap64.restype = ctypes.c_void_p
    libc.munmap.argtypes = (ctypes.c_void_p, size)
    libc.ioctl.argtypes = (number, ctypes.c_ulong, ctypes.c_void_p)
    libc.poll.argtypes = (ctypes.POINTER(_PollDescriptor), ctypes.c_ulong, number)
    return libc


def _failure() -> DriverError:
    code = ctypes.get_errno()
    return DriverError(code, os.strerror(code))


def planes_of(buffer: Buffer) -> list[Plane]:
    """The planes of a buffer of a driver that uses several, as its last request filled them in."""
    count = min(buffer.length, MAX_PLANES)
    planes: list[Plane] = list(buffer.keep[:count])
    return planes


class Driver:
    """An open device. Every method but close raises DriverError. Not thread-safe."""

    def __init__(self, path: str) -> None:
        """Open a device without blocking. Raises SourceError on systems without V4L2."""
        self._libc = _libc()
        self._mapped: list[tuple[int, int]] = []
        self._fd = -1
        self.kind = CAPTURE
        """Type of its buffers: CAPTURE, or CAPTURE_MPLANE for drivers that only know that."""
        try:
            name = os.fsencode(path)
        except UnicodeEncodeError:
            name = b""
        if not name or b"\0" in name:  # the C library would stop there
            raise DriverError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._fd = self._libc.open64(name, _OPEN_FLAGS, 0)
        if self._fd < 0:
            raise _failure()

    def call(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """One ioctl, repeated if a signal interrupted it."""
        for _ in range(_MAX_INTERRUPTIONS):
            if self._libc.ioctl(self._fd, request, ctypes.byref(argument)) >= 0:
                return
            if ctypes.get_errno() != errno.EINTR:
                break
        raise _failure()

    def ask(
        self, request: int, argument: ctypes.Structure | ctypes.c_int, *, dispensable: bool = False
    ) -> bool:
        """One ioctl; False if the driver lacks it or its list has ended.

        Frames can be captured without an answer that is ``dispensable``: then any error is one. Where the
        device is gone, the next request says so.
        """
        try:
            self.call(request, argument)
        except DriverError as error:
            if dispensable or error.errno in _NO_ANSWER:
                return False
            raise
        return True

    def ask_event(self, event: Event) -> bool:
        """Take the next event that was subscribed to; False if there is none."""
        try:
            self.call(DQEVENT, event)
        except DriverError as error:
            if error.errno in (errno.ENOENT, errno.EAGAIN, *_NO_ANSWER):
                return False
            raise
        return True

    def wait(self, milliseconds: int) -> None:
        """Wait until a frame may be ready, at most ``milliseconds``; DQBUF then says whether one is."""
        descriptor = _PollDescriptor(self._fd, select.POLLIN | select.POLLPRI, 0)
        self._libc.poll(ctypes.byref(descriptor), 1, milliseconds)

    def map_buffers(self, count: int) -> Iterator[tuple[list[tuple[int, int]], Buffer]]:
        """Let the driver allocate buffers, mapped until close.

        Yields the address and length of each plane of a buffer (most have one), and its description.
        """
        asked = RequestBuffers(count=count, type=self.kind, memory=MEMORY_MMAP)
        self.call(REQBUFS, asked)
        for index in range(asked.count):
            buffer = self.buffer(index)
            self.call(QUERYBUF, buffer)
            places = [(buffer.length, buffer.m.offset)]
            if self.kind == CAPTURE_MPLANE:
                places = [(plane.length, plane.m.offset) for plane in planes_of(buffer)]
            yield [(self._map(length, offset), length) for length, offset in places], buffer

    def _map(self, length: int, offset: int) -> int:
        # PROT_READ | PROT_WRITE, because drivers may refuse to map read-only; MAP_SHARED.
        address: int | None = self._libc.mmap64(None, length, 3, 1, self._fd, offset)
        if address is None or address == _MAP_FAILED:
            raise _failure()
        self._mapped.append((address, length))
        return address

    def buffer(self, index: int = 0) -> Buffer:
        """The argument of a request that names a buffer."""
        buffer = Buffer(index=index, type=self.kind, memory=MEMORY_MMAP)
        if self.kind == CAPTURE_MPLANE:
            buffer.keep = (Plane * MAX_PLANES)()  # the request holds only its address
            buffer.m.planes = ctypes.addressof(buffer.keep)
            buffer.length = MAX_PLANES
        return buffer

    def close(self) -> None:
        """Stop streaming and release everything; never fails, may be called more than once."""
        if self._fd < 0:
            return
        self._libc.ioctl(self._fd, STREAMOFF, ctypes.byref(ctypes.c_int(self.kind)))
        for address, length in self._mapped:
            self._libc.munmap(address, length)
        if self._mapped:
            released = RequestBuffers(count=0, type=self.kind, memory=MEMORY_MMAP)
            self._libc.ioctl(self._fd, REQBUFS, ctypes.byref(released))
        self._mapped = []
        self._libc.close(self._fd)
        self._fd = -1
