"""Silences Pillow and its libtiff, which print lines of their own about damaged files to stderr.

Such lines pass neither our messages nor :mod:`streamseg.core.printable`, and Pillow raises what is wrong
anyway. FFmpeg (through PyAV), OpenJPEG and the JPEG decoders print nothing.
"""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress
from pathlib import Path

# Not used, but it loads the library.
from PIL import Image  # noqa: F401


def silence_pillow() -> None:
    """Take away the handlers of libtiff, where it is found, and the last resort of Pillow's log.

    A program that configures Python's log still gets what Pillow logs.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    paths: set[str] = set()
    with suppress(OSError):  # only Linux lists the libraries of a process there
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        # Pillow's wheels bundle a copy under a name of its own.
        paths = {line.split(maxsplit=5)[-1] for line in lines if "libtiff" in line.rpartition("/")[2]}
    for path in paths:
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                setter = getattr(library, name)
                setter.argtypes, setter.restype = (ctypes.c_void_p,), ctypes.c_void_p
                setter(None)
