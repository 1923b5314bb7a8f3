"""Where no window can be opened: one line and an exit code, no abort and no hang."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from streamseg.display import desktop
from streamseg.errors import UsageError
from tests.display.desktops import needs_desktop, open_desktop

ROOT = Path(__file__).parents[2]
REMEDY = "use --display web or --display none"
_TRY = """
import sys
import cv2
import av
from streamseg.display import WindowDisplay
from streamseg.errors import StreamsegError
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
    ("environment", "told"),
    [
        ({}, "neither DISPLAY nor WAYLAND_DISPLAY is set"),
        ({"DISPLAY": ":9876"}, "DISPLAY=:9876 (could not connect to display :9876)"),
        ({"DISPLAY": "nonsense"}, "DISPLAY=nonsense (could not connect to display"),
        ({"WAYLAND_DISPLAY": "wayland-77"}, "WAYLAND_DISPLAY=wayland-77"),
    ],
)
def test_without_a_display_it_says_so_in_one_line(environment, told):
    done = try_window(**environment)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("no display: ")
    assert told in done.stdout
    assert done.stdout.endswith(f"; {REMEDY}\n")
    assert done.stdout.count("\n") == 1


@needs_desktop
def test_a_wish_for_another_platform_than_opencv_has_is_passed_over():
    with open_desktop(400, 300) as opened:
        done = try_window(DISPLAY=f":{opened.number}", QT_QPA_PLATFORM="wayland")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_desktop
def test_a_display_that_needs_a_key_we_do_not_have(tmp_path):
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
def test_a_server_that_starts_anew_whenever_its_last_client_leaves():
    with open_desktop(400, 300, lasting=False, managed=False) as opened:
        for _ in range(4):
            done = try_window(DISPLAY=f":{opened.number}")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_display_that_never_answers_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{port - 6000}")
        monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
        monkeypatch.setattr(desktop, "_PROBE_S", 2.0)
        with pytest.raises(UsageError, match=r"did not answer within 2 s.*use --display web"):
            desktop.usable_desktop().__enter__()


def test_an_opencv_without_windows_is_named(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(UsageError, match=r"opencv-python-headless.*use --display web"):
        desktop.usable_desktop().__enter__()
