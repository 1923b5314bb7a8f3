"""Keeps OpenVINO from leaving a freed signal stack in use.

With every net that it compiles, OpenVINO's processor plug-in (seen in 2026.4) sets an alternate signal stack
for the calling thread, and when the net is freed it restores the previous one. Two nets freed in the order in
which they were made thus leave a freed stack in use, and the next signal that Python handles there, such as
Ctrl-C or SIGTERM, ends the process with a segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def current_signal_stack() -> SignalStack | None:
    """The calling thread's alternate signal stack; None on systems other than Linux."""
    if sys.platform != "linux":
        return None
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restore the calling thread's alternate signal stack after the block."""
    before = current_signal_stack()
    try:
        yield
    finally:
        if before is not None:
            # Refused if the processor's state has outgrown the old stack; then the new one has to stay.
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
