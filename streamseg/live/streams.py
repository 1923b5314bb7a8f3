"""Several live loops at the same time, each in threads of its own: none touches the others when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from streamseg.live.loop import LiveLoop
from streamseg.live.report import LiveReport

POLL_S = 0.05
"""The longest sleep of each display's thread (``LiveOptions.poll_s``), for displays without keys: how often a
page's button for recording is asked for, and a silence is noticed."""
WAIT_S = 0.2
"""The longest wait before a signal is handled."""


def run_streams(
    loops: Sequence[LiveLoop],
    stop: threading.Event,
    *,
    on_end: Callable[[int, LiveReport], None] = lambda index, report: None,
) -> list[LiveReport]:
    """Run all loops until each has ended; ``stop`` ends all of them.

    ``on_end`` gets the index of a loop and its report when it has ended, in that loop's thread. Returns the
    reports in the order of the loops; an error that ended one is in its report. Raises what ``on_end`` raises
    and what a loop itself raises, which none should, after all have ended.
    """
    reports: dict[int, LiveReport] = {}
    raised: list[BaseException] = []

    def run(index: int) -> None:
        try:
            reports[index] = loops[index].run(stop)
            on_end(index, reports[index])
        except BaseException as error:
            raised.append(error)

    threads = [
        threading.Thread(target=run, args=(index,), name=f"streamseg-stream-{index + 1}", daemon=True)
        for index in range(len(loops))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(WAIT_S)
    if raised:
        raise raised[0]
    return [reports[index] for index in range(len(loops))]
