"""The fake back end gives the answers, delays and failures that were set."""

import time
from dataclasses import replace

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.backends.fake import ellipse
from streamseg.core.errors import EngineError
from streamseg.core.types import Backend, InputSpec

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)
ZEROS = np.zeros((1, 1, 32, 48), np.float32)


def test_fixed_answers() -> None:
    assert isinstance(FakeBackend(SPEC), Backend)
    assert np.array_equal(FakeBackend(SPEC).infer(ZEROS), ellipse(SPEC)[None])
    assert (FakeBackend(SPEC, 0.25).infer(ZEROS) == 0.25).all()
    given = ellipse(SPEC, (0.2, 0.2))
    backend = FakeBackend(SPEC, given)
    backend.infer(ZEROS)[:] = 9
    assert np.array_equal(backend.infer(ZEROS), given[None])
    assert (FakeBackend(SPEC, lambda tensor: tensor[0, 0] + 1).infer(ZEROS) == 1).all()


def test_answers_for_several_structures() -> None:
    spec = replace(SPEC, structures=("nerve", "vessel"))
    planes = np.stack([ellipse(SPEC), ellipse(SPEC, (0.2, 0.2))])
    for given in (planes, lambda tensor: planes):
        assert np.array_equal(FakeBackend(spec, given).infer(ZEROS), planes)
    assert np.array_equal(FakeBackend(spec, 0.25).infer(ZEROS), np.full((2, 32, 48), 0.25, np.float32))


def test_an_answer_that_does_not_fit_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        FakeBackend(SPEC, np.zeros((3, 3)))


def test_delay_and_failure() -> None:
    backend = FakeBackend(SPEC, delay_ms=20, fail_at=1)
    start = time.monotonic()
    backend.infer(ZEROS)
    assert time.monotonic() - start >= 0.02
    with pytest.raises(EngineError, match="call 1"):
        backend.infer(ZEROS)
    backend.infer(ZEROS)
    assert backend.calls == 3


def test_a_tensor_of_another_shape_is_refused() -> None:
    with pytest.raises(EngineError, match="takes a tensor"):
        FakeBackend(SPEC).infer(np.zeros((1, 1, 16, 16), np.float32))


def test_the_ellipse_is_half_on_its_rim() -> None:
    spec = InputSpec(101, 101, 0.0, 1.0, 0.5)
    blob = ellipse(spec, radii=(0.3, 0.2))
    assert blob[50, 50] > 0.99
    assert blob[50, 50 + 30] == pytest.approx(0.5, abs=0.08)
    assert blob[50 + 20, 50] == pytest.approx(0.5, abs=0.08)
    assert blob[0, 0] < 0.01
