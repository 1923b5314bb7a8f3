"""Checks whether a window can be opened here; if it cannot, Qt aborts the whole process."""

from __future__ import annotations

import ctypes
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from streamseg.core.errors import UsageError, one_line

_REMEDY = "use --display web or --display none"
_FONTS = Path("/usr/share/fonts")
_EVENT_OWNER = "libX11-xcb.so.1"
_PROBE_S = 30.0
_PROBE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import cv2
cv2.namedWindow("streamseg", cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)
cv2.destroyAllWindows()
cv2.pollKey()
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def usable_desktop() -> Iterator[None]:
    """Raise UsageError unless OpenCV can open a window; open it inside the ``with`` block.

    Opens one in a separate process, which Qt may abort. That process lives until the block ends, because an X
    server restarts when its only client leaves, and refuses clients meanwhile. Takes about half a second, and
    at most 30 s with a display that does not answer.
    """
    found = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if found and found[1].upper() == "NONE":
        raise UsageError(
            "no window: this OpenCV was built without windows (opencv-python-headless); "
            f"install opencv-python instead, or {_REMEDY}"
        )
    if not sys.platform.startswith("linux"):
        yield
        return
    where = {name: os.environ.get(name, "") for name in ("DISPLAY", "WAYLAND_DISPLAY")}
    named = " and ".join(f"{name}={value}" for name, value in where.items() if value)
    if not named:
        raise UsageError(f"no display: neither DISPLAY nor WAYLAND_DISPLAY is set; {_REMEDY}")
    _select_xcb()
    _silence_qt()
    try:
        probe = subprocess.Popen(
            [sys.executable, "-c", _PROBE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise UsageError(
            f"no display: cannot start a process to open a window: {one_line(error)}; {_REMEDY}"
        ) from error
    with probe:
        try:
            reason = _failure_of(probe)
            if reason is not None:
                raise UsageError(f"no display: cannot open a window on {named} ({reason}); {_REMEDY}")
            _load_system_xcb()
            yield
        finally:
            probe.kill()


def _silence_qt() -> None:
    """Point Qt to a font folder that exists; otherwise it complains about the fonts missing in its wheel."""
    if not Path(os.environ.get("QT_QPA_FONTDIR", "/nonexistent")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(_FONTS if _FONTS.is_dir() else Path(cv2.__file__).parent)


def _select_xcb() -> None:
    """Make Qt use X: Wayland desktops request ``wayland``, which OpenCV's Qt lacks, so that it aborts."""
    plugins = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    chosen = os.environ.get("QT_QPA_PLATFORM", "")
    if os.environ.get("DISPLAY") and (plugins / "libqxcb.so").exists() and "xcb" not in chosen:
        os.environ["QT_QPA_PLATFORM"] = "xcb"


def _load_system_xcb() -> None:
    """Load the system's ``libX11-xcb`` globally before Qt does; raises UsageError if it is missing.

    Through this library Qt claims the event queue of ``libX11``. OpenCV's wheel contains a version older than
    most systems' ``libX11``, which writes the claim to a field that has moved since: ``libX11`` then consumes
    events that never reach Qt (exposure, resize, keys), and the window stays black or keeps its old size.
    """
    brought = [path.name for path in Path(cv2.__file__).parents[1].glob("opencv*.libs/libX11*")]
    # A wheel with both libraries has two that fit each other.
    if not brought or not all(name.startswith("libX11-xcb") for name in brought):
        return
    try:
        ctypes.CDLL(_EVENT_OWNER, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise UsageError(
            f"no window: without the system's own {_EVENT_OWNER} it may stay black ({error}); "
            f"install it (Debian: libx11-xcb1, Fedora: libX11-xcb), or {_REMEDY}"
        ) from error


def _failure_of(probe: subprocess.Popen[bytes]) -> str | None:
    """None once the other process has opened its window, else the reason why it could not."""
    if probe.stdout is None or probe.stderr is None or not select.select([probe.stdout], [], [], _PROBE_S)[0]:
        return f"it did not answer within {_PROBE_S:.0f} s"
    if probe.stdout.readline():
        return None
    output = probe.stderr.read().decode(errors="replace")
    lines = [line.strip() for line in output.splitlines() if "font" not in line and line.strip()]
    errors = [line for line in lines if "could not" in line.lower() or "error" in line.lower()]
    line = (errors or lines or [f"exit status {probe.wait()}"])[0]
    return re.sub(r"^qt\.\S+\s", "", line)[:160]
