"""The guidance window on a real X server, in a process that decodes with PyAV as well."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.core.types import State
from streamseg.render.live.layout import Layout
from streamseg.render.overlay import CYAN, YELLOW
from streamseg.render.replay_panel import BACKGROUND
from streamseg.render.symbols import HELD, state_colours
from tests.capture.media import write_video
from tests.display.desktops import HEIGHT, WIDTH, Desktop, needs_desktop, open_desktop
from tests.render.examples import near
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
pytestmark = needs_desktop


@pytest.fixture(scope="module")
def desktop() -> Iterator[Desktop]:
    with open_desktop() as opened:
        yield opened


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mkv", 6, size=(580, 420))


class Child:
    """A live window in another process."""

    def __init__(self, desktop: Desktop, clip: Path, snapshots: Path) -> None:
        self.desktop = desktop
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.display.window_child", clip, snapshots, "full"],
            cwd=ROOT,
            env=desktop.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def ready(self) -> None:
        """Wait for the window."""
        if (said := self.hear()) != "ready 6":
            self.process.kill()
            raise AssertionError(f"{said}\n{self.end()[1]}")

    def show(self, *words: object) -> None:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        assert self.hear().startswith("shown")

    def end(self) -> tuple[str, str]:
        """Close the window; returns its further output and its standard error."""
        self.process.stdin.close()
        try:
            self.process.wait(60)
            return self.process.stdout.read(), self.process.stderr.read()
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()


@pytest.fixture
def child(desktop, clip, tmp_path) -> Iterator[Child]:
    opened = Child(desktop, clip, tmp_path / "snaps")
    try:
        opened.ready()
        yield opened
    finally:
        if not opened.process.stdin.closed:
            opened.end()


def outlined(screen) -> bool:
    """Whether the image on the screen carries an outline; a line of the outline's colour, not a pixel."""
    image = Layout.fit((WIDTH, HEIGHT), (580, 420)).image
    return bool(near(image.crop(screen), YELLOW).sum() > 300)


def sign(screen) -> str:
    """The state whose colour stands in the banner."""
    banner = screen[10:80, 14:300]
    signs = [state for state in State if state not in (State.NO_NERVE, State.STARTING, State.ENDED)]
    # The frozen scanner and the frozen display share their colour.
    return str(max(signs, key=lambda state: near(banner, state_colours(state)[0]).sum()))


def test_the_outline_leaves_the_screen_when_it_expires_although_nothing_new_is_shown(child, desktop):
    child.show("nerve", 600_000)
    wait_for(lambda: outlined(desktop.screen()))
    wait_for(lambda: sign(desktop.screen()) == State.NERVE)
    child.show("nerve", 400)
    wait_for(lambda: not outlined(desktop.screen()))
    wait_for(lambda: sign(desktop.screen()) == State.LAGGING)
    child.show("nerve", 0)
    assert not outlined(desktop.screen())
    child.show("source_lost")
    wait_for(lambda: sign(desktop.screen()) == State.SOURCE_LOST)


def test_freezing_holds_the_image_without_the_outline_once_it_has_expired(child, desktop):
    child.show("nerve", 1_000)
    desktop.press("f")
    wait_for(lambda: near(desktop.screen()[10:80], state_colours(HELD)[0]).sum() > 5000)
    wait_for(lambda: not outlined(desktop.screen()))
    image = Layout.fit((WIDTH, HEIGHT), (580, 420)).image
    held = image.crop(desktop.screen())
    for _ in range(3):
        child.show("nerve", 600_000)
    assert np.array_equal(image.crop(desktop.screen()), held)
    desktop.press("space")
    wait_for(lambda: outlined(desktop.screen()))
    wait_for(lambda: sign(desktop.screen()) == State.NERVE)


def test_keys_for_the_outline_its_tint_and_recording(child, desktop):
    child.show("nerve", 600_000)
    image = Layout.fit((WIDTH, HEIGHT), (580, 420)).image
    wait_for(lambda: outlined(desktop.screen()))
    plain = image.crop(desktop.screen()).astype(int)
    desktop.press("o")
    wait_for(lambda: not outlined(desktop.screen()))
    desktop.press("o")
    wait_for(lambda: outlined(desktop.screen()))
    desktop.press(*["plus"] * 5)
    tinted = wait_for(
        lambda: (image.crop(desktop.screen()).astype(int) - plain)[200:300, 300:400].mean() > 10
    )
    assert tinted
    desktop.press("r", "x")
    assert child.hear() == "command record"
    child.show("lagging", "recording")
    panel = Layout.fit((WIDTH, HEIGHT), (580, 420)).panel
    wait_for(lambda: near(panel.crop(desktop.screen()), (60, 60, 255)).any())


def test_the_key_for_vessels_and_their_end(child, desktop):
    layout = Layout.fit((WIDTH, HEIGHT), (580, 420))

    def vessels() -> tuple[bool, bool, bool]:
        """Whether there are vessels in the image, a sample of their line in the panel, and a nerve."""
        screen = desktop.screen()
        panel = near(layout.panel.crop(screen), CYAN).any()
        return bool(near(layout.image.crop(screen), CYAN).sum() > 100), bool(panel), outlined(screen)

    child.show("vessel", 600_000)
    wait_for(lambda: vessels() == (True, True, True))
    desktop.press("v")
    wait_for(lambda: vessels() == (False, False, True))
    child.show("vessel", 600_000)
    assert vessels() == (False, False, True)
    desktop.press("v")
    wait_for(lambda: vessels() == (True, True, True))
    desktop.press("o")
    wait_for(lambda: vessels() == (False, False, False))
    desktop.press("o")
    child.show("vessel", 400)
    wait_for(lambda: vessels() == (False, True, False))


def test_a_snapshot_saves_the_display_and_the_captured_frame(child, desktop, tmp_path):
    child.show("nerve", 600_000)
    wait_for(lambda: outlined(desktop.screen()))  # before, the window may have the size that Qt begins with
    desktop.press("s")
    desktop.press("s")
    folder = tmp_path / "snaps"
    names = wait_for(lambda: (found := sorted(folder.glob("*.png"))) and len(found) == 4 and found)
    annotated, original = (cv2.imread(str(name)) for name in names[:2])
    assert names[0].name.endswith("-annotated.png")
    assert outlined(annotated)
    assert original.shape == (420, 580, 3)
    assert annotated.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_keys_that_quit(child, desktop, key):
    child.show("starting")
    desktop.press(key)
    assert child.hear() == "command quit"
    said, complained = child.end()
    assert (said, complained) == ("closed\n", ""), "no thread is left, and Qt keeps silent"
    assert child.process.returncode == 0


def test_closing_the_window_quits_and_it_stays_closed(child, desktop):
    child.show("starting")
    desktop.ask_to_close()
    assert child.hear() == "command quit"
    child.show("nerve", 1000)
    wait_for(lambda: not desktop.screen().any())
    said, complained = child.end()
    assert (said, complained) == ("closed\n", "")


def test_full_screen_and_back_and_another_size(child, desktop):
    child.show("nerve", 600_000)
    wait_for(lambda: outlined(desktop.screen()))
    # The window manager takes its time: the outline may be there before the window fills the screen.
    wait_for(lambda: near(desktop.screen()[-4:], BACKGROUND).all())
    desktop.press("w")
    wait_for(lambda: not near(desktop.screen()[:4], BACKGROUND).all())
    desktop.resize(800, 600)

    def drawn_for_its_size() -> bool:
        window = desktop.window_image()
        place = Layout.fit((800, 600), (580, 420)).image
        return window.shape == (600, 800, 3) and bool(near(place.crop(window), YELLOW).sum() > 200)

    wait_for(drawn_for_its_size)
    desktop.press("w")
    wait_for(lambda: near(desktop.screen()[:4], BACKGROUND).all() and outlined(desktop.screen()))


_OPEN = """
import json, sys, threading
from pathlib import Path
from streamseg.display import WindowDisplay
from tests.render.examples import view
for _ in range(2):
    display = WindowDisplay("streamseg twice")
    display.show(view())
    display.poll()
    display.close()
print(json.dumps([thread.name for thread in threading.enumerate()]))
"""


def test_a_second_window_can_follow_the_first(desktop):
    done = subprocess.run(
        [sys.executable, "-c", _OPEN],
        cwd=ROOT,
        env=desktop.environment,
        capture_output=True,
        timeout=120,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["MainThread"]
