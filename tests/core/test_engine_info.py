"""The description of an engine: ours carry it, a user's own back end need not."""

import numpy as np

from streamseg.backends import FakeBackend
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import Backend, InputSpec, Tensor
from streamseg.segmentation.segmenter import Segmenter

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)


class Own:
    """A user's own back end, with nothing but what the protocol asks for."""

    def __init__(self) -> None:
        self.name, self.fingerprint, self.spec = "own", "ab" * 32, SPEC

    def infer(self, tensor: Tensor) -> np.ndarray:
        return np.zeros((1, SPEC.height, SPEC.width), np.float32)

    def close(self) -> None: ...


def test_a_back_end_of_the_protocol_alone_is_described_and_runs() -> None:
    own = Own()
    assert isinstance(own, Backend)
    found = EngineInfo.of(own)
    assert found == EngineInfo("own", "ab" * 32, SPEC, "test_engine_info")
    assert (found.batch, found.lanes, found.precision, found.trained, found.on_gpu) == (
        1,
        1,
        None,
        True,
        False,
    )
    assert found.identity() == {"name": "own", "sha256": "ab" * 32}
    assert Segmenter(own).lanes == 1


def test_attributes_of_a_user_s_back_end_count() -> None:
    class More(Own):
        precision, batch, lanes, trained, device = "int8", 4, 2, False, "cuda:0"

    found = EngineInfo.of(More())
    assert (found.precision, found.batch, found.lanes, found.trained) == ("int8", 4, 2, False)
    assert found.on_gpu


def test_ours_carry_their_description() -> None:
    fake = FakeBackend(SPEC, name="f", lanes=3)
    assert EngineInfo.of(fake) is fake.info
    assert (fake.info.backend, fake.info.lanes) == ("fake", 3)
    assert (fake.name, fake.fingerprint, fake.spec) == (fake.info.name, fake.info.sha256, fake.info.spec)
