"""Takes a screenshot of the web page: ``python -m tests.web.screenshot FILE.png [OPTIONS]``.

Runs ``streamseg live`` on the phantom with its page in Chromium, as a user would, and waits for an outline.
Further arguments are passed on to ``streamseg live``.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from streamseg.core.types import State
from streamseg.render.symbols import state_colours
from tests.display.screenshot import FILLING_S, SOURCE
from tests.render.examples import near
from tests.waiting import wait_for

SIZE = {"width": 1600, "height": 900}


def main() -> None:
    from playwright.sync_api import sync_playwright

    target, options = Path(sys.argv[1]), sys.argv[2:]
    command = [sys.executable, "-m", "streamseg", "live", SOURCE, "--display", "web", "--port", "0"]
    command += ["--mm-per-pixel", "0.07", "--seconds", "120", *options]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert run.stderr is not None
        url = next(found[0] for line in run.stderr if (found := re.search(r"http://\S+", line)))
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE)
            page.goto(url)
            time.sleep(2 * FILLING_S)  # the chart fills slowly
            wait_for(lambda: outlined(page.screenshot(path=target)))
            browser.close()
    finally:
        run.terminate()
        run.wait(30)


def outlined(png: bytes) -> bool:
    """Whether a screenshot shows the state NERVE, and an outline in the image."""
    yellow = state_colours(State.NERVE)[0]
    screen = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    card, image = screen[10:100, 1110:], screen[50:800, 20:1080]
    return bool(near(card, yellow).mean() > 0.2 and near(image, yellow).sum() > 300)


if __name__ == "__main__":
    main()
