"""Plain PyTorch, the reference that other engines are compared with. Needs the extra ``train``."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg.core.engine_info import Described
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.hardware import thread_count
from streamseg.core.types import Planes, Tensor
from streamseg.engines.checkpoint import Checkpoint

if TYPE_CHECKING:
    from streamseg.nets import PooledNet

FORMS = ("eager", "compile", "channels-last")
"""Kernel by kernel; by torch's compiler; kernel by kernel with the channels innermost in memory."""
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class EagerBackend(Described):
    """A checkpoint's net run by torch on the processor or a GPU; by default folded, in float32.

    With ``folded`` False it is the net as trained, with its BatchNorms and shortcuts. If the checkpoint is
    already folded they are set to change nothing (:func:`streamseg.nets.inference.unfolded`): the arithmetic
    is that of the trained net, which depends on no value, and the answers are those of the folded weights.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str | None = None,
        *,
        folded: bool = True,
        form: str = "eager",
        device: str = "cpu",
        precision: str = "fp32",
        batch: int = 1,
        threads: int | None = None,
    ) -> None:
        """Build the net and run it once, so that what fails or compiles does so here.

        ``form`` is one of FORMS, ``device`` ``cpu`` or ``cuda``, ``precision`` one of TYPES (fp16 on a GPU
        only); ``threads`` (None follows STREAMSEG_THREADS and this process's limits) sets torch's number of
        threads, for the whole process. Raises MissingExtra without torch, UsageError for an invalid number of
        threads, and EngineError for weights that do not fit their net or a device that is not there.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("the eager back end", "torch", "train") from error
        from streamseg.backends.cuda.runner import usable_device
        from streamseg.nets.inference import probability

        if form not in FORMS or precision not in TYPES:
            raise EngineError(
                f"torch runs nets as {', '.join(FORMS)} in {', '.join(TYPES)}, received {form} in {precision}"
            )
        if device == "cpu" and precision == "fp16":
            raise EngineError("torch's fp16 is for GPUs; take fp32 or bf16 on the processor")
        if name is None:
            name = f"{checkpoint.net}-torch-{form}-{precision}{'' if folded else '-as-trained'}"
        self.info = checkpoint.info(name, "eager", precision=precision, batch=batch, device=device)
        self._torch = torch
        self._probability = probability
        self._device = usable_device(device, name)
        self._dtype: torch.dtype = getattr(torch, TYPES[precision])
        self._threads = thread_count(threads) if device == "cpu" else threads
        self._channels_last = form == "channels-last"
        net = _net(checkpoint, folded).to(self._device, self._dtype)
        self.model_bytes = sum(t.numel() * t.element_size() for t in net.state_dict().values())
        """Bytes of its weights, and of its BatchNorms' statistics if it has any."""
        convolutions = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
        self._types = [convolution.weight.dtype for convolution in convolutions]
        if self._channels_last:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._run: Any = net
        self._start(form == "compile")

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, H, W), of a tensor (batch, 1, H, W); of more than one frame
        (batch, structures, H, W).

        Waits for the device. Raises EngineError.
        """
        if self._run is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        batch = self.info.batch
        expected = (batch, 1, self.spec.height, self.spec.width)
        if tensor.shape != expected:
            raise EngineError(f"engine {self.name} takes a tensor {expected}, received {tensor.shape}")
        torch = self._torch
        # OpenMP keeps the number per thread, and this may be another one than before.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), self._exact():
            x = torch.from_numpy(np.ascontiguousarray(tensor)).to(self._device, self._dtype)
            if self._channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            found: Planes = self._probability(self._run, x, mirrored=self.spec.mirrored).float().cpu().numpy()
        return found[0] if batch == 1 else found

    def precision_found(self) -> dict[str, float]:
        """Share of the convolutions, 0..1, by the type of their weights, which is what they compute in."""
        names = {getattr(self._torch, kind): name for name, kind in TYPES.items()}
        found = Counter(names.get(kind, "other") for kind in self._types)
        return {name: count / found.total() for name, count in found.most_common()}

    def close(self) -> None:
        """Free the net. May be called twice."""
        self._run = None

    def _exact(self) -> AbstractContextManager[None]:
        """FP32 means FP32: a GPU would convolve in TF32 by default."""
        from streamseg.backends.cuda.preprocess import exact_products

        on_gpu = self._device.type == "cuda" and self.info.precision == "fp32"
        return exact_products(self._device) if on_gpu else nullcontext()

    def _start(self, compiled: bool) -> None:
        """The first call, which compiles."""
        from streamseg.backends.cuda.runner import translated

        blank = np.zeros((self.info.batch, 1, self.spec.height, self.spec.width), np.float32)
        with translated(self.name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler talks about itself
            if compiled:
                # On the processor one thread compiles: a pool of processes would outlive it, and compete.
                options: Any = {"compile_threads": 1} if self._device.type == "cpu" else None
                self._run = self._torch.compile(self._run, dynamic=False, options=options)
            self.infer(blank)


def _net(checkpoint: Checkpoint, folded: bool) -> PooledNet:
    """The net, giving logits; eval mode, without gradients, on the processor."""
    from streamseg.nets.inference import load_net, unfolded

    return unfolded(checkpoint) if checkpoint.folded and not folded else load_net(checkpoint, folding=folded)
