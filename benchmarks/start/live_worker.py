"""Runs ``streamseg live`` until the first outline is displayed, and prints when each step was over.

    python -m benchmarks.start.live_worker SOURCE [options of streamseg live]

Prints a JSON object of monotonic nanoseconds. Imports nothing before it has looked at the clock.
"""

import time

BEGAN_NS = time.monotonic_ns()


def main() -> None:
    """Command line."""
    import sys
    from typing import Any

    from streamseg.cli import live_run
    from streamseg.cli import main as streamseg
    from streamseg.core.types import Backend, Frame
    from streamseg.core.view import Command, View

    ends = {"python": BEGAN_NS}

    class Watch:
        """A display and an observer, which ends the run once an outline was displayed."""

        name = "watch"

        def on_frame(self, frame: Frame, arrived_ns: int) -> None:
            ends.setdefault("frame", frame.captured_ns)

        def on_result(self, result: object) -> None:
            pass

        def on_view(self, view: View, shown_ns: int) -> None:
            if view.segmentation is not None and view.segmentation.contours:
                ends.setdefault("outline", shown_ns)

        def show(self, view: View) -> None:
            pass

        def poll(self) -> list[Command]:
            return [Command.QUIT] if "outline" in ends else []

        def close(self) -> None:
            pass

    loop, load = live_run.LiveLoop, live_run.load_engine

    def watched(*arguments: Any, displays: Any, observers: Any, **options: Any) -> live_run.LiveLoop:
        watch = Watch()
        return loop(*arguments, displays=[*displays, watch], observers=[*observers, watch], **options)

    def timed(engine: str | None) -> Backend:
        ends["import"] = time.monotonic_ns()
        backend = load(engine)
        ends["load"] = time.monotonic_ns()
        return backend

    live_run.LiveLoop, live_run.load_engine = watched, timed  # type: ignore[assignment,misc]
    code = streamseg(["live", *sys.argv[1:]])

    import json
    import os

    print(json.dumps({"ends_ns": ends}), flush=True)
    # On a busy machine the loop leaves a thread in the net, which ends a process on its way out with SIGABRT.
    os._exit(code)


if __name__ == "__main__":
    main()
