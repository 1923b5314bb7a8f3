"""Subjects of the nets' benchmark that know how slow they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from streamseg.backends import FakeBackend
from streamseg.benchmark.nets.schedule import Schedule
from streamseg.benchmark.nets.variants import InputShape, Variant
from streamseg.core.types import InputSpec, Tensor

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)
SHORT = Schedule(
    rounds=2, least_rounds=1, budget_s=60.0, block_s=0.06, end_s=0.05, paced_s=0.2, pictures=2,
    untrained_pictures=1, calibration=2, untrained_calibration=2, stall_s=60.0, starts=False, paces=(),
)  # fmt: skip


class Fake(FakeBackend):
    """Keeps how long each call from the benchmark's own thread took: a busy machine sleeps longer."""

    def __init__(
        self,
        *,
        found: dict[str, float] | None = None,
        batch: int = 1,
        delay_ms: float = 10,
        **options: Any,
    ) -> None:
        super().__init__(SPEC, delay_ms=delay_ms, batch=batch, **options)
        self.took_ns: list[int] = []
        self.before: Callable[[int], None] = lambda call: None
        self._found = {"fp32": 1.0} if found is None else found

    def infer(self, tensor: Tensor) -> Any:
        began = time.monotonic_ns()
        self.before(self.calls)
        found = super().infer(tensor[:1])
        if self.info.batch > 1:
            found = np.repeat(found[None], self.info.batch, axis=0)
        if threading.current_thread().name == "streamseg-bench":
            self.took_ns.append(time.monotonic_ns() - began)
        return found

    def precision_found(self) -> dict[str, float]:
        return self._found


def subject(
    fake: FakeBackend, backend: str = "openvino", precision: str = "fp32", *, folded: bool = True
) -> Variant:
    found = fake.precision_found() if isinstance(fake, Fake) else {}
    point = InputShape("improved_unet", SPEC.height, SPEC.width, fake.info.batch)
    return Variant(point, backend, precision, fake, found, folded, True, "built", 1000, build_s=1.5)


def eager(fake: FakeBackend | None = None) -> Variant:
    return subject(fake or Fake(delay_ms=20, name="eager"), "eager", folded=False)
