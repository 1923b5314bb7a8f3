"""What holds for every test."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from streamseg.backends.openvino.signal_stack import kept_signal_stack
from tests.optional import needs

if TYPE_CHECKING:
    from tests.export.built_engines import BuiltEngines
    from tests.scheduling import ByImports

# Machines are busy at times: how long an example takes to make or to run says nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded with the tests stays: looking through all of it for rubbish takes half a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        from tests.scheduling import rank

        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByImports:
    from tests.scheduling import ByImports

    config.option.loadscopereorder = False  # which would begin with the file of most tests
    return ByImports(config, log)


@pytest.fixture(scope="session", autouse=True)
def _no_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was built in this checkout decides which engine runs; tests must not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMSEG_ENGINES", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture(scope="session")
def built_engines(tmp_path_factory: pytest.TempPathFactory) -> BuiltEngines:
    """Engines that were really exported, built once however many processes run tests. Read only."""
    needs("torch", "nncf")
    from tests.export.built_engines import built_in

    base = tmp_path_factory.getbasetemp()
    return built_in((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built-engines")


@pytest.fixture(autouse=True)
def _torch_threads() -> Iterator[None]:
    """An engine sets torch's threads for its process. With two, small nets wait in a busy loop: tests of
    training that run later take twenty times the processor time."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    torch = sys.modules.get("torch")
    if torch is not None and before and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _signal_stack() -> Iterator[None]:
    """OpenVINO used past our back end leaves a freed signal stack; a time-out would then crash the run."""
    with kept_signal_stack():
        yield
