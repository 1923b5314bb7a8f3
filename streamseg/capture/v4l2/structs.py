"""Structures, flags and request numbers of ``linux/videodev2.h`` that frame grabbers need."""

from __future__ import annotations

import ctypes

CAPTURE, CAPTURE_MPLANE = 1, 9
"""Buffer types of video capture: in one plane, and of drivers that use several."""
MAX_PLANES = 8
EVENT_SOURCE_CHANGE = 5
MEMORY_MMAP = 1
"""Memory that the driver allocated, mapped into this process."""
CAP_CAPTURE, CAP_CAPTURE_MPLANE = 0x1, 0x1000
CAP_STREAMING, CAP_DEVICE_CAPS = 0x04000000, 0x80000000
CAP_TIMEPERFRAME = 0x1000
BUF_ERROR = 0x40
BUF_CLOCK, BUF_MONOTONIC = 0xE000, 0x2000

_u8, _u16, _u32 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32


class Capability(ctypes.Structure):
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", _u32),
        ("capabilities", _u32),
        ("device_caps", _u32),
        ("reserved", _u32 * 3),
    )


class FormatDescription(ctypes.Structure):
    _fields_ = (
        ("index", _u32),
        ("type", _u32),
        ("flags", _u32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", _u32),
        ("reserved", _u32 * 4),
    )


class FrameSize(ctypes.Structure):
    """``values``: width, height (kind 1); else minimum, maximum and step of the width, then of the height."""

    _fields_ = (
        ("index", _u32),
        ("pixelformat", _u32),
        ("kind", _u32),
        ("values", _u32 * 6),
        ("reserved", _u32 * 2),
    )


class FrameInterval(ctypes.Structure):
    """``values``: numerator and denominator in seconds (kind 1), else those of minimum, maximum and step."""

    _fields_ = (
        ("index", _u32),
        ("pixelformat", _u32),
        ("width", _u32),
        ("height", _u32),
        ("kind", _u32),
        ("values", _u32 * 6),
        ("reserved", _u32 * 2),
    )


class PixFormat(ctypes.Structure):
    _fields_ = (
        ("width", _u32),
        ("height", _u32),
        ("pixelformat", _u32),
        ("field", _u32),
        ("bytesperline", _u32),
        ("sizeimage", _u32),
        ("colorspace", _u32),
        ("priv", _u32),
        ("flags", _u32),
        ("ycbcr_enc", _u32),
        ("quantization", _u32),
        ("xfer_func", _u32),
    )


class PlaneFormat(ctypes.Structure):
    _fields_ = (("sizeimage", _u32), ("bytesperline", _u32), ("reserved", _u16 * 6))


class PixFormatMplane(ctypes.Structure):
    _fields_ = (
        ("width", _u32),
        ("height", _u32),
        ("pixelformat", _u32),
        ("field", _u32),
        ("colorspace", _u32),
        ("plane_fmt", PlaneFormat * MAX_PLANES),
        ("num_planes", _u8),
        ("flags", _u8),
        ("ycbcr_enc", _u8),
        ("quantization", _u8),
        ("xfer_func", _u8),
        ("reserved", _u8 * 7),
    )


class _FormatUnion(ctypes.Union):
    # The pointer gives the union the kernel's alignment.
    _fields_ = (
        ("pix", PixFormat),
        ("pix_mp", PixFormatMplane),
        ("raw", _u8 * 200),
        ("pointer", ctypes.c_void_p),
    )


class Format(ctypes.Structure):
    _fields_ = (("type", _u32), ("fmt", _FormatUnion))


class CaptureParameters(ctypes.Structure):
    _fields_ = (
        ("type", _u32),
        ("capability", _u32),
        ("capturemode", _u32),
        ("numerator", _u32),
        ("denominator", _u32),
        ("rest", _u8 * 184),
    )


class Input(ctypes.Structure):
    _fields_ = (
        ("index", _u32),
        ("name", ctypes.c_char * 32),
        ("type", _u32),
        ("audioset", _u32),
        ("tuner", _u32),
        ("std", ctypes.c_uint64),
        ("status", _u32),
        ("capabilities", _u32),
        ("reserved", _u32 * 3),
    )


class RequestBuffers(ctypes.Structure):
    _fields_ = (
        ("count", _u32),
        ("type", _u32),
        ("memory", _u32),
        ("capabilities", _u32),
        ("flags", _u8),
        ("reserved", _u8 * 3),
    )


class Rectangle(ctypes.Structure):
    _fields_ = (
        ("left", ctypes.c_int32),
        ("top", ctypes.c_int32),
        ("width", _u32),
        ("height", _u32),
    )


class CropCapability(ctypes.Structure):
    """``aspect`` is height to width of a pixel, as numerator and denominator."""

    _fields_ = (("type", _u32), ("bounds", Rectangle), ("defrect", Rectangle), ("aspect", _u32 * 2))


class DvTimings(ctypes.Structure):
    """Timings of a digital input; ``rest`` is what a driver answers and is given back unread."""

    _pack_ = 1
    _fields_ = (("type", _u32), ("width", _u32), ("height", _u32), ("rest", _u8 * 120))


class EventSubscription(ctypes.Structure):
    _fields_ = (("type", _u32), ("id", _u32), ("flags", _u32), ("reserved", _u32 * 5))


class Event(ctypes.Structure):
    """``data`` holds the kinds of change first, if the event is a change of the source."""

    _fields_ = (
        ("type", _u32),
        ("data", ctypes.c_uint64 * 8),
        ("pending", _u32),
        ("sequence", _u32),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
        ("id", _u32),
        ("reserved", _u32 * 8),
    )


class _PlanePlace(ctypes.Union):
    _fields_ = (("offset", _u32), ("userptr", ctypes.c_ulong), ("fd", ctypes.c_int32))


class Plane(ctypes.Structure):
    _fields_ = (
        ("bytesused", _u32),
        ("length", _u32),
        ("m", _PlanePlace),
        ("data_offset", _u32),
        ("reserved", _u32 * 11),
    )


class _BufferPlace(ctypes.Union):
    _fields_ = (("offset", _u32), ("userptr", ctypes.c_ulong), ("planes", ctypes.c_void_p))


class Buffer(ctypes.Structure):
    _fields_ = (
        ("index", _u32),
        ("type", _u32),
        ("bytesused", _u32),
        ("flags", _u32),
        ("field", _u32),
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("timecode", _u32 * 4),
        ("sequence", _u32),
        ("memory", _u32),
        ("m", _BufferPlace),
        ("length", _u32),
        ("reserved2", _u32),
        ("request_fd", _u32),
    )


_READ, _WRITE = 2, 1


def _request(access: int, number: int, size: int) -> int:
    """The number of an ioctl on most processors: access, size, group 'V', number."""
    return access << 30 | size << 16 | ord("V") << 8 | number


QUERYCAP = _request(_READ, 0, ctypes.sizeof(Capability))
ENUM_FMT = _request(_READ | _WRITE, 2, ctypes.sizeof(FormatDescription))
G_FMT = _request(_READ | _WRITE, 4, ctypes.sizeof(Format))
S_FMT = _request(_READ | _WRITE, 5, ctypes.sizeof(Format))
REQBUFS = _request(_READ | _WRITE, 8, ctypes.sizeof(RequestBuffers))
QUERYBUF = _request(_READ | _WRITE, 9, ctypes.sizeof(Buffer))
QBUF = _request(_READ | _WRITE, 15, ctypes.sizeof(Buffer))
DQBUF = _request(_READ | _WRITE, 17, ctypes.sizeof(Buffer))
STREAMON = _request(_WRITE, 18, ctypes.sizeof(ctypes.c_int))
STREAMOFF = _request(_WRITE, 19, ctypes.sizeof(ctypes.c_int))
G_PARM = _request(_READ | _WRITE, 21, ctypes.sizeof(CaptureParameters))
S_PARM = _request(_READ | _WRITE, 22, ctypes.sizeof(CaptureParameters))
ENUMINPUT = _request(_READ | _WRITE, 26, ctypes.sizeof(Input))
G_INPUT = _request(_READ, 38, ctypes.sizeof(ctypes.c_int))
CROPCAP = _request(_READ | _WRITE, 58, ctypes.sizeof(CropCapability))
S_DV_TIMINGS = _request(_READ | _WRITE, 87, ctypes.sizeof(DvTimings))
DQEVENT = _request(_READ, 89, ctypes.sizeof(Event))
SUBSCRIBE_EVENT = _request(_WRITE, 90, ctypes.sizeof(EventSubscription))
QUERY_DV_TIMINGS = _request(_READ, 99, ctypes.sizeof(DvTimings))
ENUM_FRAMESIZES = _request(_READ | _WRITE, 74, ctypes.sizeof(FrameSize))
ENUM_FRAMEINTERVALS = _request(_READ | _WRITE, 75, ctypes.sizeof(FrameInterval))
