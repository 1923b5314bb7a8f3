"""An emulated frame grabber for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.capture.v4l2.device import Child, EmulatedDevice, emulated_device


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedDevice]:
    with emulated_device(tmp_path_factory.mktemp("v4l2")) as found:
        yield found


@pytest.fixture(scope="module")
def child(device: EmulatedDevice) -> Iterator[Child]:
    started = Child(device)
    yield started
    started.close()
