"""The watch: answers and errors pass, what hangs is left behind and the next call still runs."""

from __future__ import annotations

import threading
import time

import pytest

from streamseg.benchmark.watch import Watch
from streamseg.core.errors import StallError


def test_answers_and_errors_pass_through() -> None:
    with Watch(5) as watch:
        assert watch.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            watch.run(lambda: 1 / 0)


def test_all_calls_run_in_one_thread() -> None:
    with Watch(5) as watch:
        idents = {watch.run(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_what_hangs_is_left_behind() -> None:
    released = threading.Event()
    with Watch(0.05) as watch:
        with pytest.raises(StallError, match=r"no answer within 0\.05 s"):
            watch.run(released.wait)
        watch.limit_s = 5
        assert watch.run(lambda: "next") == "next"
    released.set()


def test_ctrl_c_waits_for_the_call_that_is_going_on() -> None:
    """A library that computes while the interpreter goes away aborts the program."""
    over = threading.Event()

    def works() -> None:
        time.sleep(0.3)
        over.set()

    def interrupted() -> None:
        watch.run(lambda: None)
        assert watch._calls is not None
        watch._calls.put(works)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Watch(30) as watch:
        interrupted()
    assert over.is_set()
