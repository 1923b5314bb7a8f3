"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamseg.backends.signal_stack import kept_signal_stack


@pytest.fixture(autouse=True)
def _signal_stack() -> Iterator[None]:
    """OpenVINO used past our back end leaves a freed signal stack; a time-out would then crash the run."""
    with kept_signal_stack():
        yield
