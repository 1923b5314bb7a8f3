"""Plain PyTorch: the reference that other back ends are compared with. Needs the extra ``train``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import Tensor
from streamseg.engines.checkpoint import Checkpoint


class EagerBackend:
    """A net run by torch, float32, on the processor."""

    precision = "fp32"

    def __init__(
        self, checkpoint: Checkpoint, name: str, *, threads: int | None = None, folding: bool = True
    ) -> None:
        """Build the net and load the weights.

        ``folding`` brings an unfolded checkpoint into its inference form; False runs it as trained.
        ``threads`` sets torch's number of threads, for the whole process. Raises MissingExtra without torch
        and EngineError for weights that do not fit their net.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("the eager back end", "torch", "train") from error
        from streamseg.nets.inference import load_net

        self.name = name
        self.fingerprint = checkpoint.sha256
        self.spec = checkpoint.spec
        self.trained = checkpoint.trained
        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self._net: Any = load_net(checkpoint, folding=folding)

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """Probability, float32 (height, width). Raises EngineError."""
        if self._net is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        expected = (1, 1, self.spec.height, self.spec.width)
        if tensor.shape != expected:
            raise EngineError(f"engine {self.name} takes a tensor {expected}, received {tensor.shape}")
        with self._torch.inference_mode():
            logits = self._net(self._torch.from_numpy(np.ascontiguousarray(tensor)))
            probability: npt.NDArray[np.float32] = self._torch.sigmoid(logits)[0, 0].numpy()
        return probability

    def close(self) -> None:
        """Free the net. May be called twice."""
        self._net = None
