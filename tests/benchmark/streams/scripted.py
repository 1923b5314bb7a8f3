"""Streams that did not happen, and options for those that do."""

from typing import Any

import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.benchmark.streams import bench as streams
from streamseg.benchmark.streams.bench import StreamsOptions
from streamseg.benchmark.streams.run import Offer, StreamCount, StreamsRun
from tests.benchmark.streams.test_run import SPEC

SHORT = Offer(fps=30, seconds=0.2, warm_s=0.1)


def options(**changes: Any) -> StreamsOptions:
    values = {"load": lambda many: FakeBackend(SPEC), "counts": (2, 1), "offer": SHORT, "rounds": 2} | changes
    return StreamsOptions(**values)


def stream(
    processed: int = 30,
    offered: int = 30,
    in_time: int | None = None,
    age_ms: float = 20,
    displayed: int | None = None,
) -> StreamCount:
    ages = (round(age_ms * 1e6),) * processed
    shown, within = (processed if value is None else value for value in (displayed, in_time))
    return StreamCount(offered, processed, within, shown, ages, 1.0)


def scripted(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[int]:
    """Runs that did not happen: ``answer`` gets the number of streams and that of the call."""
    asked: list[int] = []

    def run(clip: object, backend: object, count: int, offer: Offer) -> StreamsRun:
        asked.append(count)
        found = answer(count, len(asked) - 1)
        if isinstance(found, BaseException):
            raise found
        return found if isinstance(found, StreamsRun) else StreamsRun((found,) * count, 0.5, 1.0)

    monkeypatch.setattr(streams, "run_streams", run)
    return asked
