"""The screen saver's hold, with stand-ins for the system's two tools: test machines have no session bus."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamseg.display.screensaver import ScreenSaverHold
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the tools are those of Unix desktops")


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """systemd-inhibit as the real one works: it runs a command, and ends with it."""
    tool(
        tmp_path,
        "systemd-inhibit",
        f'echo $$ > "{tmp_path}/pid"; shift 3; "$@"; echo done > "{tmp_path}/ended"',
    )
    tool(tmp_path, "xdg-screensaver", f'echo "$1" >> "{tmp_path}/resets"')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "streamseg-screensaver"]


def test_the_screen_saver_is_held_off_until_closing(tools):
    hold = ScreenSaverHold()
    wait_for(lambda: (tools / "pid").exists() and (tools / "resets").exists())
    assert (tools / "resets").read_text() == "reset\n"
    assert not (tools / "ended").exists()
    hold.close()
    hold.close()
    wait_for((tools / "ended").exists)
    assert not threads()


def test_no_process_remains_if_ours_is_killed(tools):
    code = (
        "from streamseg.display.screensaver import ScreenSaverHold\n"
        "hold = ScreenSaverHold(); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        wait_for((tools / "pid").exists)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        wait_for((tools / "ended").exists)


def test_tools_that_fail_hang_or_are_missing_do_no_harm(tools, monkeypatch):
    tool(tools, "systemd-inhibit", "echo Failed to connect to bus >&2; exit 1")
    tool(tools, "xdg-screensaver", "exec sleep 600")
    hold = ScreenSaverHold()
    hold.close()
    assert not threads()
    (tools / "systemd-inhibit").write_text("no program")
    hold = ScreenSaverHold()
    hold.close()
    monkeypatch.setenv("PATH", str(tools / "nowhere"))
    ScreenSaverHold().close()
    assert not threads()
