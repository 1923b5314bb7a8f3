"""If no window can be opened: one line and an exit code, no abort and no hang."""

import ctypes
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from streamseg.core.errors import UsageError
from streamseg.display import desktop
from tests.display.desktops import needs_desktop, open_desktop

ROOT = Path(__file__).parents[2]
REMEDY = "use --display web or --display none"
_TRY = """
import os, sys
os.environ.pop("LD_DEBUG", None)  # of this process only, not of those that it starts
import cv2
import av
from streamseg.display import WindowDisplay
from streamseg.core.errors import StreamsegError
try:
    WindowDisplay("streamseg test").close()
except StreamsegError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def try_window(**environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "QT_LOGGING_RULES")
    }
    command = [sys.executable, "-c", _TRY]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a desktop")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "neither DISPLAY nor WAYLAND_DISPLAY is set"),
        ({"DISPLAY": ":9876"}, "DISPLAY=:9876 (could not connect to display :9876)"),
        ({"DISPLAY": "nonsense"}, "DISPLAY=nonsense (could not connect to display"),
        ({"WAYLAND_DISPLAY": "wayland-77"}, "WAYLAND_DISPLAY=wayland-77"),
    ],
)
def test_a_missing_display_is_one_line(environment, expected, monkeypatch, capfd):
    # Only the process that tries a window meets Qt, so this one can ask itself.
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "QT_QPA_FONTDIR", "QT_LOGGING_RULES"):
        monkeypatch.setenv(name, "")  # whatever is set from here on is undone
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as raised, desktop.usable_desktop():
        pass
    assert (raised.value.exit_code, *capfd.readouterr()) == (2, "", "")
    message = str(raised.value)
    assert message.startswith("no display: ")
    assert expected in message
    assert message.endswith(f"; {REMEDY}")
    assert "\n" not in message


@needs_desktop
def test_a_qt_platform_that_opencv_lacks_is_ignored():
    with open_desktop(400, 300) as opened:
        done = try_window(DISPLAY=f":{opened.number}", QT_QPA_PLATFORM="wayland")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_desktop
def test_a_display_that_needs_a_key_is_refused_without_it(tmp_path):
    key = tmp_path / "key"
    # One entry for every address: family 65535, empty address and number, a cookie.
    name, cookie = b"MIT-MAGIC-COOKIE-1", bytes(range(16))
    fields = b"".join(len(field).to_bytes(2, "big") + field for field in (b"", b"", name, cookie))
    key.write_bytes(b"\xff\xff" + fields)
    with open_desktop(400, 300, "-auth", str(key), managed=False) as opened:
        number = f":{opened.number}"
        refused = try_window(DISPLAY=number, XAUTHORITY=str(tmp_path / "none"))
        admitted = try_window(DISPLAY=number, XAUTHORITY=str(key))
    assert (refused.returncode, refused.stderr) == (2, "")
    assert f"cannot open a window on DISPLAY={number}" in refused.stdout
    assert (admitted.returncode, admitted.stdout, admitted.stderr) == (0, "", "")


@needs_desktop
def test_a_server_that_restarts_when_its_last_client_leaves():
    with open_desktop(400, 300, lasting=False, managed=False) as opened:
        for _ in range(2):
            done = try_window(DISPLAY=f":{opened.number}")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


BRINGS_ITS_OWN = any(Path(cv2.__file__).parents[1].glob("opencv*.libs/libX11-xcb*"))


@needs_desktop
@pytest.mark.skipif(not BRINGS_ITS_OWN, reason="this OpenCV uses the system's libraries throughout")
def test_qt_takes_its_events_from_the_libx11_in_use(tmp_path):
    """Else libX11 swallows some of them: the window stays black, or keeps its old size."""
    with open_desktop(400, 300) as opened:
        done = try_window(
            DISPLAY=f":{opened.number}", LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(tmp_path / "bindings")
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (bindings,) = tmp_path.iterdir()
    used = re.findall(
        r"to (\S+) \[0\]: normal symbol `XSetEventQueueOwner'", bindings.read_text(errors="replace")
    )
    assert [Path(library).name for library in used] == ["libX11-xcb.so.1"]


def pretend_to_bring(monkeypatch, folder: Path, *names: str) -> list[str]:
    """An OpenCV whose wheel holds these libraries; what is loaded from the system is written down."""
    (folder / "opencv_python.libs").mkdir()
    for name in names:
        (folder / "opencv_python.libs" / name).touch()
    monkeypatch.setattr(cv2, "__file__", str(folder / "cv2" / "__init__.py"))
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name, mode: loaded.append(name))
    return loaded


@pytest.mark.parametrize(
    ("brought", "loaded"),
    [
        (["libX11-xcb-b482bfde.so.1.0.0", "libQt5Core-9088e21b.so.5"], ["libX11-xcb.so.1"]),
        (["libX11-xcb-b482bfde.so.1.0.0", "libX11-0123abcd.so.6.4.0"], []),
        (["libQt5Core-9088e21b.so.5"], []),
    ],
)
def test_both_x11_libraries_come_from_one_place(tmp_path, monkeypatch, brought, loaded):
    done = pretend_to_bring(monkeypatch, tmp_path, *brought)
    desktop._load_system_xcb()
    assert done == loaded


def test_a_missing_x11_library_is_named_with_its_packages(tmp_path, monkeypatch):
    pretend_to_bring(monkeypatch, tmp_path, "libX11-xcb-b482bfde.so.1.0.0")

    def missing(name, mode):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(
        UsageError, match=r"(?s)^no window: .*libX11-xcb\.so\.1.*libx11-xcb1.*--display web"
    ) as raised:
        desktop._load_system_xcb()
    assert "\n" not in str(raised.value)


def test_a_display_that_never_answers_is_an_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{port - 6000}")
        monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
        monkeypatch.setattr(desktop, "_PROBE_S", 1.0)
        with pytest.raises(UsageError, match=r"did not answer within 1 s.*use --display web"):
            desktop.usable_desktop().__enter__()


def test_an_opencv_without_windows_is_named(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(UsageError, match=r"opencv-python-headless.*use --display web"):
        desktop.usable_desktop().__enter__()
