"""Whether a window can be opened here at all: Qt aborts the whole process where it cannot."""

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

from streamseg.core.errors import UsageError

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
    """Raises UsageError unless OpenCV can open a window; open it inside the ``with`` block.

    Tried in a process of its own, which Qt may abort. It stays until the block ends: an X server starts anew
    when its only client leaves, and for that moment would refuse the next. Takes about half a second, and
    30 s at most with a display that does not answer.
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
    told = " and ".join(f"{name}={value}" for name, value in where.items() if value)
    if not told:
        raise UsageError(f"no display: neither DISPLAY nor WAYLAND_DISPLAY is set; {_REMEDY}")
    _choose_platform()
    _quieten_qt()
    try:
        probe = subprocess.Popen(
            [sys.executable, "-c", _PROBE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise UsageError(f"no display: cannot try a window: {error}; {_REMEDY}") from error
    with probe:
        try:
            reason = _why_not(probe)
            if reason is not None:
                raise UsageError(f"no display: cannot open a window on {told} ({reason}); {_REMEDY}")
            _keep_events()
            yield
        finally:
            probe.kill()


def _quieten_qt() -> None:
    """Name a folder of fonts that exists, or Qt complains of those that its wheel lacks."""
    if not Path(os.environ.get("QT_QPA_FONTDIR", "/nonexistent")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(_FONTS if _FONTS.is_dir() else Path(cv2.__file__).parent)


def _choose_platform() -> None:
    """Desktops on Wayland ask every Qt for ``wayland``; OpenCV's own has X only, and aborts."""
    plugins = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    chosen = os.environ.get("QT_QPA_PLATFORM", "")
    if os.environ.get("DISPLAY") and (plugins / "libqxcb.so").exists() and "xcb" not in chosen:
        os.environ["QT_QPA_PLATFORM"] = "xcb"


def _keep_events() -> None:
    """Load the system's ``libX11-xcb`` for all, before Qt looks for it; UsageError where it is missing.

    Through it Qt tells ``libX11`` that events are Qt's. OpenCV's wheel brings one that is older than most
    systems' ``libX11`` and writes that to a place which has moved since: ``libX11`` then takes events that
    nobody ever sees (exposure, new sizes, keys), and the window stays black or keeps its old size.
    """
    brought = [path.name for path in Path(cv2.__file__).parents[1].glob("opencv*.libs/libX11*")]
    # With both, the wheel's two fit each other.
    if not brought or not all(name.startswith("libX11-xcb") for name in brought):
        return
    try:
        ctypes.CDLL(_EVENT_OWNER, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise UsageError(
            f"no window: without the system's own {_EVENT_OWNER} it may stay black ({error}); "
            f"install it (Debian: libx11-xcb1, Fedora: libX11-xcb), or {_REMEDY}"
        ) from error


def _why_not(probe: subprocess.Popen[bytes]) -> str | None:
    """None once the other process has opened its window, else why it could not."""
    if probe.stdout is None or probe.stderr is None or not select.select([probe.stdout], [], [], _PROBE_S)[0]:
        return f"it did not answer within {_PROBE_S:.0f} s"
    if probe.stdout.readline():
        return None
    complaint = probe.stderr.read().decode(errors="replace")
    lines = [line.strip() for line in complaint.splitlines() if "font" not in line and line.strip()]
    telling = [line for line in lines if "could not" in line.lower() or "error" in line.lower()]
    line = (telling or lines or [f"exit status {probe.wait()}"])[0]
    return re.sub(r"^qt\.\S+\s", "", line)[:160]
