"""Nets as torch runs them, behind the interface of an engine: what engines are compared with. Needs torch."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import Tensor
from streamseg.engines.checkpoint import Checkpoint

if TYPE_CHECKING:
    from streamseg.nets import PooledNet

FORMS = ("eager", "compile", "channels-last")
"""Kernel by kernel; by torch's compiler; kernel by kernel with the channels innermost in memory."""
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class TorchEngine:
    """A checkpoint's net run by torch, kernel by kernel or compiled, on the processor or a GPU.

    Not ``folded`` is the net as it was trained, with its BatchNorms and shortcuts. Where the checkpoint is a
    folded one they are set to change nothing (:func:`unfolded`): the arithmetic is that of the net as
    trained, which depends on no value, and the answers are those of the folded weights.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        folded: bool,
        form: str = "eager",
        device: str = "cpu",
        precision: str = "fp32",
        batch: int = 1,
        threads: int | None = None,
    ) -> None:
        """Build the net and run it once, so that what fails or compiles does so here.

        ``form`` is one of FORMS, ``device`` ``cpu`` or ``cuda``, ``precision`` one of TYPES (fp16 on a GPU
        only); ``threads`` are torch's, for the whole process. Raises EngineError, also for what cannot be had
        here, and MissingExtra without torch.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("running a net by torch", "torch", "train") from error
        from streamseg.backends.cuda.runner import usable_device

        if form not in FORMS or precision not in TYPES:
            raise EngineError(
                f"torch runs nets as {', '.join(FORMS)} in {', '.join(TYPES)}, received {form} in {precision}"
            )
        if device == "cpu" and precision == "fp16":
            raise EngineError("torch's fp16 is for GPUs; take fp32 or bf16 on the processor")
        self.name = f"{checkpoint.net}-torch-{form}-{precision}{'' if folded else '-as-trained'}"
        self.fingerprint = checkpoint.sha256
        self.spec = checkpoint.spec
        self.precision = precision
        self.trained = checkpoint.trained
        self.batch = batch
        self._torch = torch
        self._device = usable_device(device, self.name)
        self._dtype: torch.dtype = getattr(torch, TYPES[precision])
        self._threads = threads
        self._channels_last = form == "channels-last"
        net = _net(checkpoint, folded).to(self._device, self._dtype)
        self.model_bytes = sum(t.numel() * t.element_size() for t in net.state_dict().values())
        """Bytes of its weights, and of its BatchNorms' statistics where it has them."""
        convolutions = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
        self._types = [convolution.weight.dtype for convolution in convolutions]
        if self._channels_last:
            net = net.to(memory_format=torch.channels_last)
        self._run: Any = net
        self._start(form == "compile")

    def infer(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """Probability, float32 (H, W), or (batch, H, W) for more than one, of a tensor (batch, 1, H, W).

        Waits for the device. Raises EngineError.
        """
        if self._run is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        expected = (self.batch, 1, self.spec.height, self.spec.width)
        if tensor.shape != expected:
            raise EngineError(f"engine {self.name} takes a tensor {expected}, received {tensor.shape}")
        torch = self._torch
        # OpenMP keeps the number per thread, and this may be another one than before.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), self._products():
            x = torch.from_numpy(np.ascontiguousarray(tensor)).to(self._device, self._dtype)
            if self._channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            found: npt.NDArray[np.float32] = self._run(x).float().cpu().numpy()
        return found[0, 0] if self.batch == 1 else found[:, 0]

    def precision_found(self) -> dict[str, float]:
        """Share of the convolutions, 0..1, by the type of their weights, which is what they compute in."""
        names = {getattr(self._torch, kind): name for name, kind in TYPES.items()}
        found = Counter(names.get(kind, "other") for kind in self._types)
        return {name: count / found.total() for name, count in found.most_common()}

    def close(self) -> None:
        """Free the net. May be called twice."""
        self._run = None

    def _products(self) -> Any:
        """FP32 means FP32: a GPU would convolve in TF32 by itself."""
        from streamseg.backends.cuda.preprocess import exact_products

        on_gpu = self._device.type == "cuda" and self.precision == "fp32"
        return exact_products(self._device) if on_gpu else nullcontext()

    def _start(self, compiled: bool) -> None:
        """The first call, which compiles."""
        from streamseg.backends.cuda.runner import translated

        blank = np.zeros((self.batch, 1, self.spec.height, self.spec.width), np.float32)
        with translated(self.name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler talks about itself
            if compiled:
                # On the processor one thread compiles: a pool of processes would outlive it, and compete.
                options: Any = {"compile_threads": 1} if self._device.type == "cpu" else None
                self._run = self._torch.compile(self._run, dynamic=False, options=options)
            self.infer(blank)


def _net(checkpoint: Checkpoint, folded: bool) -> Any:
    """The net, ending in the probability; eval mode, without gradients, on the processor."""
    from streamseg.nets.inference import InferenceNet, load_net

    net = unfolded(checkpoint) if checkpoint.folded and not folded else load_net(checkpoint, folding=folded)
    return InferenceNet(net).eval().requires_grad_(False)


def unfolded(checkpoint: Checkpoint) -> PooledNet:
    """A folded checkpoint's net in the form that is trained, giving the same logits but for rounding.

    Its BatchNorms multiply by one and add nothing, its shortcuts' weights are zeros: a convolution takes as
    long with these as with any others. Raises EngineError for weights that do not fit the net.
    """
    import torch

    from streamseg.nets import build_net

    with torch.device("meta"):  # no time for random weights that go at once
        net = build_net(checkpoint.net).eval().requires_grad_(False)
    net = net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
            assert module.running_var is not None
            module.running_var.fill_(1 - module.eps)
        elif isinstance(module, torch.nn.Conv2d):
            module.weight.zero_()  # a shortcut's stays so
            if module.bias is not None:
                module.bias.zero_()
    weights = {name: torch.from_numpy(np.array(array)) for name, array in checkpoint.weights.items()}
    try:
        found = net.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise _misfit(checkpoint, " ".join(str(error).split())[:160]) from error
    lacking = [name for name in found.missing_keys if "norm" not in name and "shortcut" not in name]
    if strange := [*lacking, *found.unexpected_keys]:
        raise _misfit(checkpoint, ", ".join(strange[:3]))
    return net


def _misfit(checkpoint: Checkpoint, what: str) -> EngineError:
    return EngineError(
        f"the weights of checkpoint {checkpoint.sha256[:12]} do not fit the net {checkpoint.net!r} ({what}); "
        "export them again with this version"
    )
