"""Whether a window can be opened here at all: Qt aborts the whole process where it cannot."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2

from streamseg.errors import UsageError

_REMEDY = "use --display web or --display none"
_FONTS = Path("/usr/share/fonts")
_PROBE_S = 30.0
_PROBE = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import cv2
cv2.namedWindow("streamseg", cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)
"""


def require_desktop() -> None:
    """Raise UsageError unless OpenCV can open a window: tried in a process of its own, which Qt may abort.

    Takes about half a second, and 30 s at most with a display that does not answer.
    """
    found = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if found and found[1].upper() == "NONE":
        raise UsageError(
            "no window: this OpenCV was built without windows (opencv-python-headless); "
            f"install opencv-python instead, or {_REMEDY}"
        )
    if not sys.platform.startswith("linux"):
        return
    where = {name: os.environ.get(name, "") for name in ("DISPLAY", "WAYLAND_DISPLAY")}
    told = " and ".join(f"{name}={value}" for name, value in where.items() if value)
    if not told:
        raise UsageError(f"no display: neither DISPLAY nor WAYLAND_DISPLAY is set; {_REMEDY}")
    _choose_platform()
    reason = _probe()
    if reason is not None:
        raise UsageError(f"no display: cannot open a window on {told} ({reason}); {_REMEDY}")


def quieten_qt() -> None:
    """Before the first window: keep Qt's warnings, of fonts that its wheel lacks, off the terminal."""
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
    if not Path(os.environ.get("QT_QPA_FONTDIR", "/nonexistent")).is_dir() and _FONTS.is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(_FONTS)


def _choose_platform() -> None:
    """Desktops on Wayland ask every Qt for ``wayland``; OpenCV's own has X only, and aborts."""
    plugins = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    chosen = os.environ.get("QT_QPA_PLATFORM", "")
    if os.environ.get("DISPLAY") and (plugins / "libqxcb.so").exists() and "xcb" not in chosen:
        os.environ["QT_QPA_PLATFORM"] = "xcb"


def _probe() -> str | None:
    """Open a window in another process; None where that works, else why not."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PROBE_S,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_PROBE_S:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if "font" not in line and line.strip()]
    telling = [line for line in lines if "could not" in line.lower() or "error" in line.lower()]
    line = (telling or lines or [f"exit status {done.returncode}"])[0]
    return re.sub(r"^qt\.\S+\s", "", line)[:160]
