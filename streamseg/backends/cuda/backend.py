"""The common part of the GPU's back ends: everything but making the net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamseg.core.engine_info import Described
from streamseg.core.types import Grey, Image, Mask, Planes, Tensor

if TYPE_CHECKING:
    from streamseg.backends.cuda.runner import CudaRunner


class CudaBackend(Described):
    """A net in a runner, which does pre- and postprocessing on the device, all in one CUDA graph."""

    runner: CudaRunner
    shares: Mapping[str, float]
    """Share of the engine's layers, 0..1, by the type that they compute in."""

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, H, W), of a tensor (batch, 1, H, W); of more than one frame
        (batch, structures, H, W).

        Raises EngineError.
        """
        return self.runner.infer(tensor)

    def infer_grey(self, image: Grey) -> Planes:
        """The same for a letterboxed image, uint8 (H, W) or (batch, H, W), which is scaled on the device."""
        return self.runner.infer_grey(image)

    def mask(self, image: Image) -> Mask:
        """The nerve's pixels, whose probability reaches the threshold, bool (H, W) at the net's resolution.

        ``image`` uint8 (h, w) grey or (h, w, 3) BGR of any size, stacked for a batch; everything is done on
        the device. Raises EngineError.
        """
        return self.runner.mask(image)

    def precision_found(self) -> dict[str, float]:
        """Share of the layers, 0..1, by the type that they compute in, read from the engine."""
        return dict(self.shares)

    def close(self) -> None:
        """Free the net and its buffers. May be called twice."""
        self.runner.close()
