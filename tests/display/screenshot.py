"""Takes a screenshot of the guidance window: ``python -m tests.display.screenshot FILE.png [OPTIONS]``.

Runs ``streamseg live`` on the phantom on an X server of its own (Xvfb), as a user would, and waits for the
state NERVE. Further arguments are passed on to ``streamseg live``.
"""

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from streamseg.core.types import State
from streamseg.render.symbols import state_colours
from tests.display.desktops import HEIGHT, WIDTH, open_desktop
from tests.render.examples import near
from tests.waiting import wait_for

SOURCE = "phantom:?seed=3&frames=9000&fps=30&size=729x582&nerve=always"
FILLING_S = 8
"""Until the percentiles are those of a run that has settled."""


def main() -> None:
    target, options = Path(sys.argv[1]), sys.argv[2:]
    yellow = state_colours(State.NERVE)[0]
    command = [
        sys.executable,
        "-m",
        "streamseg",
        "live",
        SOURCE,
        "--mm-per-pixel",
        "0.07",
        "--seconds",
        "120",
    ]
    with open_desktop(WIDTH, HEIGHT, managed=False) as desktop:
        run = subprocess.Popen([*command, *options], env=desktop.environment)

        try:
            time.sleep(FILLING_S)
            taken: list[np.ndarray] = []

            def outlined() -> bool:
                screen = desktop.screen()
                card, image = screen[10:80, 14:300], screen[100:680, 60:870]
                if near(card, yellow).mean() > 0.2 and near(image, yellow).sum() > 300:
                    taken.append(screen)
                return bool(taken)

            wait_for(outlined)
            target.write_bytes(cv2.imencode(".png", taken[0], (cv2.IMWRITE_PNG_COMPRESSION, 9))[1].tobytes())
        finally:
            run.terminate()
            run.wait(30)


if __name__ == "__main__":
    main()
