"""An engine that takes several frames in a call gets those of several streams."""

import threading

import numpy as np

from streamseg.backends.fake import FakeBackend
from streamseg.backends.openvino.backend import OpenVINOBackend
from streamseg.benchmark.streams.bench import measure_streams
from streamseg.core.types import InputSpec, Tensor
from tests.backends.small_engines import info_of, small_model
from tests.benchmark.streams.scripted import options
from tests.benchmark.streams.test_run import SPEC


class Batched(FakeBackend):
    """Takes four frames at a time, each call as long as one."""

    def __init__(self) -> None:
        super().__init__(SPEC, batch=4)

    def infer(self, tensor: Tensor) -> np.ndarray:
        return np.stack([super(Batched, self).infer(row[None]) for row in tensor])


def test_a_batch_is_filled_from_several_streams() -> None:
    held = threading.Semaphore(1)  # one call at a time, however many ask

    class Once(Batched):
        def infer(self, tensor: Tensor) -> np.ndarray:
            assert held.acquire(blocking=False)
            try:
                threading.Event().wait(0.03)
                return super().infer(tensor)
            finally:
                held.release()

    rows = measure_streams(options(load=lambda many: Once(), counts=(1, 4), rounds=1))
    one, four = rows
    assert one["batch"] == four["batch"] == 4
    assert one["batch_fill"] == 1
    assert four["batch_fill"] > 1.5


def test_a_real_engine_of_several_frames() -> None:
    spec = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)

    def load(many: bool) -> OpenVINOBackend:
        model = small_model(spec, batch=4)
        return OpenVINOBackend(model, info_of(spec, backend="openvino", batch=4), threads=1)

    row = measure_streams(options(load=load, counts=(3,), rounds=1))[0]
    assert row["processed"] > 0
    assert row["engine"]["backend"] == "openvino"
    assert 1 <= row["batch_fill"] <= 3
