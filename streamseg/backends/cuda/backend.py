"""What the back ends of a GPU have in common: everything but how the net itself gets there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streamseg.core.engine_info import Described
from streamseg.core.types import Grey, Image, Mask, Tensor

if TYPE_CHECKING:
    from streamseg.backends.cuda.runner import CudaRunner


class CudaBackend(Described):
    """A net in a runner, which puts pre- and post-processing on its device, all in one CUDA graph."""

    runner: CudaRunner
    shares: Mapping[str, float]
    """Share of the engine's layers, 0..1, by the type that they compute in."""

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """Probability, float32 (H, W), or (batch, H, W) for more than one, of a tensor (batch, 1, H, W).

        Raises EngineError.
        """
        return self.runner.infer(tensor)

    def infer_picture(self, picture: Grey) -> npt.NDArray[np.float32]:
        """The same of a letterboxed picture, uint8 (H, W), or (batch, H, W); scaled on the device."""
        return self.runner.infer_picture(picture)

    def mask(self, image: Image) -> Mask:
        """Where a frame's probability reaches the threshold, bool (H, W) at the net's resolution.

        ``image`` uint8 (h, w) grey or (h, w, 3) BGR of any size, stacked for a batch; all of it happens on
        the device. Raises EngineError.
        """
        return self.runner.mask(image)

    def precision_found(self) -> dict[str, float]:
        """Share of the layers, 0..1, by the type that they compute in, read off the engine."""
        return dict(self.shares)

    def close(self) -> None:
        """Free the net and its buffers. May be called twice."""
        self.runner.close()
