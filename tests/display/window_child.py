"""Shows views in a real window on commands from standard input, and prints the user's commands.

A process of its own, with PyAV beside OpenCV as in a live run: Qt may abort the process it lives in.
"""

import queue
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from streamseg.capture import open_source
from streamseg.core.errors import StreamsegError
from streamseg.core.types import Frame, State
from streamseg.core.view import Figures, View
from streamseg.display import WindowDisplay
from tests.render.examples import view, with_vessel


def answer(*words: object) -> None:
    print(*words, flush=True)


def read_lines(lines: "queue.Queue[list[str]]") -> None:
    for line in sys.stdin:
        lines.put(line.split())
    lines.put(["end"])


def view_of(words: list[str], number: int, frame: Frame) -> View:
    """``nerve 500``: an outline that expires in 500 ms; ``vessel 500``: a vessel's beside it; any other state
    by its name."""
    if words[0] in ("nerve", "vessel"):
        shown = view(State.NERVE, number=number, expires_in_ms=int(words[1]), image=frame.image)
        if words[0] == "nerve" or shown.segmentation is None:
            return shown
        return replace(shown, segmentation=with_vessel(shown.segmentation, spacing_mm=(0.07, 0.07)))
    recording = "recording 0:01" if words[1:] else None
    figures = Figures(offered=number, recording=recording)
    return view(
        State[words[0].upper()], "told by the test", number=number, image=frame.image, figures=figures
    )


def main() -> int:
    clip, snapshots, full_screen = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "full"
    with open_source(str(clip)) as source:
        frames = list(source)
    try:
        display = WindowDisplay("streamseg test", snapshots=snapshots, full_screen=full_screen)
    except StreamsegError as error:
        answer("error", error)
        return error.exit_code
    lines: queue.Queue[list[str]] = queue.Queue()
    threading.Thread(target=read_lines, args=(lines,), daemon=True).start()
    answer("ready", len(frames))
    for number in range(1, 1_000_000):
        time.sleep(0.01)
        for command in display.poll():
            answer("command", command)
        try:
            words = lines.get_nowait()
        except queue.Empty:
            continue
        if words[0] == "end":
            break
        display.show(view_of(words, number, frames[number % len(frames)]))
        answer("shown", *words)
    display.close()
    display.close()
    answer("closed", *[thread.name for thread in threading.enumerate() if "streamseg" in thread.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
