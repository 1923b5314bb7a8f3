"""A back end with known answers, delays and failures, for tests and for measuring the loop."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import EngineError
from streamseg.core.types import InputSpec, Planes, Tensor

Probability = npt.NDArray[np.float32]


class FakeBackend(Described):
    """Answers every tensor with known probabilities.

    ``probability`` is a map (spec.height, spec.width) or one number, for every structure, or the planes
    (structures, spec.height, spec.width); a function of the tensor that gives the planes, or the one map of a
    net for nerves alone; or None for :func:`ellipse`. ``delay_ms`` is slept in every call,
    without holding the interpreter. ``fail_at`` makes that call (0 is the first) raise EngineError.
    ``lanes`` threads may call it at a time. Subclasses may give it a ``batch`` that they answer.
    """

    def __init__(
        self,
        spec: InputSpec,
        probability: npt.ArrayLike | Callable[[Tensor], Probability] | None = None,
        *,
        delay_ms: float = 0.0,
        fail_at: int | None = None,
        name: str = "fake",
        lanes: int = 1,
        batch: int = 1,
    ) -> None:
        self.info = EngineInfo(
            name=name,
            sha256=hashlib.sha256(f"{name} {spec}".encode()).hexdigest(),
            spec=spec,
            backend="fake",
            precision="fp32",
            batch=batch,
            lanes=lanes,
            trained=False,
        )
        self.calls = 0
        """Calls of :meth:`infer` so far."""
        self.closed = False
        self._lock = threading.Lock()
        self._delay_s = delay_ms / 1e3
        self._fail_at = fail_at
        self._answer: Callable[[Tensor], Probability]
        if callable(probability):
            self._answer = probability
        else:
            fixed = ellipse(spec) if probability is None else np.asarray(probability, np.float32)
            shape = len(spec.structures), spec.height, spec.width
            answer = np.ascontiguousarray(np.broadcast_to(fixed, shape))
            self._answer = lambda _: answer.copy()

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, height, width). Raises EngineError for a wrong shape and at
        ``fail_at``."""
        expected = (1, 1, self.spec.height, self.spec.width)
        if tensor.shape != expected:
            raise EngineError(f"engine {self.name} takes a tensor {expected}, received {tensor.shape}")
        with self._lock:
            call, self.calls = self.calls, self.calls + 1
        if call == self._fail_at:
            raise EngineError(f"engine {self.name} failed at call {call}, as requested")
        if self._delay_s:
            time.sleep(self._delay_s)
        answer = self._answer(tensor)
        return answer[None] if answer.ndim == 2 else answer

    def close(self) -> None:
        self.closed = True


def ellipse(
    spec: InputSpec,
    centre: tuple[float, float] = (0.5, 0.5),
    radii: tuple[float, float] = (0.2, 0.15),
    *,
    softness: float = 0.1,
) -> Probability:
    """A soft elliptic blob: probability 0.5 on the ellipse, rising inwards; float32 (height, width).

    Centre and radii are (x, y) as fractions of the input's width and height.
    """
    y, x = np.mgrid[: spec.height, : spec.width].astype(np.float64)
    distance = np.hypot(
        ((x + 0.5) / spec.width - centre[0]) / radii[0], ((y + 0.5) / spec.height - centre[1]) / radii[1]
    )
    probability: Probability = (1 / (1 + np.exp(np.clip((distance - 1) / softness, -50, 50)))).astype(
        np.float32
    )
    return probability
