"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from streamseg.backends.signal_stack import kept_signal_stack

# Machines are busy at times: how long an example takes to make or to run says nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def _signal_stack() -> Iterator[None]:
    """OpenVINO used past our back end leaves a freed signal stack; a time-out would then crash the run."""
    with kept_signal_stack():
        yield
