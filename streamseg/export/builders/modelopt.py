"""INT8 for TensorRT and ONNX: ranges by nvidia-modelopt, arithmetic as explicit quantise/dequantise pairs.

TensorRT wants the inputs of weighted layers quantised, each tensor once, symmetrically, and weights by output
channel. So every convolution reads a quantised input. If one tensor feeds two of them (an encoder stage's
output goes down through the pooling and across into the merge), both use one range: TensorRT then moves the
pair up through pooling, up-sampling and concatenation and writes INT8 once. SegNet's comparisons stay in
float, because which of four pixels is the largest must not depend on rounding.

modelopt measures the ranges. The quantised net holds none of its modules: it runs on any device, exports by
``torch.export`` anywhere (modelopt's own modules trace to plain arithmetic on a processor), and carries the
operator ``tensorrt::quantize_op`` that torch-tensorrt converts and ``export_onnx`` translates.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.core.errors import EngineError, MissingExtra, UsageError
from streamseg.core.types import Grey, InputSpec
from streamseg.nets.inference import InferenceNet
from streamseg.nets.lite_unet import SKIPS, STAGES, LiteUNet
from streamseg.nets.unet import EncoderDecoder
from streamseg.segmentation.preprocess import to_tensor

PRESETS = ("mixed", "performance")
"""``mixed`` leaves the first convolution and the head in float, ``performance`` quantises them as well."""

_Skips = dict[str, tuple[str, str]]
"""The encoder stages of a U-Net whose output the decoder reads, each with the two convolutions that read it:
below and beside."""


class FakeQuantiser(nn.Module):
    """Rounds to 256 steps within a range, and back to float.

    ``torch.export`` traces it to the operator ``tensorrt::quantize_op``, ONNX export writes QuantizeLinear
    and DequantizeLinear, and called directly it does the same arithmetic.
    """

    amax: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, amax: Tensor, *, unsigned: bool = False) -> None:
        """``amax``: the end of the range, one number, or (channels, 1, 1, 1) for weights.

        The range is -amax..amax in int8, or with ``unsigned`` 0..amax in uint8.
        """
        super().__init__()
        self.dtype = torch.uint8 if unsigned else torch.int8
        self.lowest, self.largest = (0, 255) if unsigned else (-128, 127)
        # A range of zeros (a dead channel) would divide by zero; any number will do whose 127th part is above
        # 0 in half precision too, since TensorRT refuses a scale of 0.
        amax = amax.detach().float().clamp_min(1e-5)
        self.register_buffer("amax", amax)
        self.register_buffer("scale", (amax / self.largest).reshape(-1 if amax.ndim else ()))
        self.register_buffer("zero", torch.zeros_like(self.scale, dtype=self.dtype))

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return self._written(x)
        if torch.compiler.is_exporting():
            marked: Tensor = torch.ops.tensorrt.quantize_op(x, self.amax, 8, 0, self.lowest == 0, False)
            return marked
        scale = self.scale.reshape(self.amax.shape)
        rounded = torch.clamp(torch.round(x.float() / scale), self.lowest, self.largest)
        return (rounded * scale).to(x.dtype)

    def _written(self, x: Tensor) -> Tensor:
        axis: Any = {"axis": 0} if self.scale.ndim else {}
        scale, shape = self.scale.to(x.dtype), x.shape
        symbolic = torch.onnx.ops.symbolic
        whole = symbolic("QuantizeLinear", (x, scale, self.zero), axis, dtype=self.dtype, shape=shape)
        return symbolic("DequantizeLinear", (whole, scale, self.zero), axis, dtype=x.dtype, shape=shape)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FakeQuantiser:
        # half() must not reach ranges: small ones are subnormal there. Devices must.
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self


class QuantisedConv(nn.Module):
    """A convolution of a quantised input with quantised weights."""

    def __init__(self, conv: nn.Conv2d, amax: Tensor, *, unsigned: bool) -> None:
        """``amax``: of the input; ``unsigned`` if that is never negative and may be uint8."""
        super().__init__()
        self.conv = conv
        self.input = FakeQuantiser(amax, unsigned=unsigned)
        self.weight = FakeQuantiser(conv.weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        assert not isinstance(conv.padding, str)
        weight = self.weight(conv.weight)
        return F.conv2d(
            self.input(x), weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )


def quantise(
    net: InferenceNet, images: Sequence[Grey], spec: InputSpec, *, preset: str, unsigned: bool = False
) -> InferenceNet:
    """An INT8 copy of a float32 net; activation ranges are measured on ``images`` (each uint8 (H, W)).

    ``preset``: one of PRESETS. ``unsigned`` is the form that onnxruntime's processor kernels fuse, and
    TensorRT refuses: uint8 where nothing is negative, and pairs after stages beside those before
    convolutions. Deterministic on one machine. Raises UsageError for an unknown preset, EngineError without
    images, MissingExtra without modelopt.
    """
    if preset not in PRESETS:
        raise UsageError(f"no INT8 preset is called {preset!r}; choose one of {', '.join(PRESETS)}")
    if not images:
        raise EngineError("INT8 needs images to measure its ranges on, received none; give a recipe's frames")
    measured, signed = _measure(net, [torch.from_numpy(to_tensor(image, spec)) for image in images])
    skips = _skips(net)
    _share_ranges(skips, measured)
    quantised = copy.deepcopy(net)
    if unsigned:
        _quantise_stages(quantised, skips, measured, signed)
    for name, amax in measured.items():
        parent, _, child = name.rpartition(".")
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        first = conv.in_channels == 1
        if preset == "performance" or not (first or name == "net.head"):
            positive = not first and name not in signed
            layer = QuantisedConv(copy.deepcopy(conv), amax, unsigned=unsigned and positive)
            setattr(quantised.get_submodule(parent), child, layer)
    return quantised.eval().requires_grad_(False)


def ranges(net: nn.Module) -> dict[str, float]:
    """End of each quantised convolution's input range, by the convolution's name; in the net's own units."""
    return {
        name.removeprefix("net."): float(module.input.amax)
        for name, module in net.named_modules()
        if isinstance(module, QuantisedConv)
    }


def _measure(net: InferenceNet, tensors: Sequence[Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """The largest magnitude that each convolution reads, over all tensors, by name; measured by modelopt.

    Also the names of those that read negative values.
    """
    names = [name for name, module in net.named_modules() if type(module) is nn.Conv2d]
    chosen = [
        {"quantizer_name": f"{name}.{kind}_quantizer", "cfg": {"num_bits": 8, "axis": axis}, "enable": True}
        for name in names
        for kind, axis in (("weight", 0), ("input", None))
    ]
    config = {"quant_cfg": [{"quantizer_name": "*", "enable": False}, *chosen], "algorithm": "max"}

    signed: set[str] = set()

    def note(name: str, given: tuple[Tensor, ...]) -> None:
        if float(given[0].amin()) < 0:
            signed.add(name)

    def run(model: nn.Module) -> None:
        hooks = [
            model.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: note(name, x))
            for name in names
        ]
        with torch.inference_mode():
            for tensor in tensors:
                model(tensor)
        for hook in hooks:
            hook.remove()

    plain = copy.deepcopy(net)
    plain.mirrored = False  # the ranges are those of the images alone, as with the other quantiser
    with _quiet():
        measured: Any = _modelopt().quantize(plain, config, run)
    found = {name: measured.get_submodule(name).input_quantizer.amax.clone().reshape(()) for name in names}
    return found, signed


def _share_ranges(skips: _Skips, measured: dict[str, Tensor]) -> None:
    """Give the two readers of each encoder stage of a U-Net one range. Pooling keeps the largest value."""
    for readers in skips.values():
        shared = torch.stack([measured[f"net.{name}"] for name in readers]).amax()
        measured.update({f"net.{name}": shared for name in readers})


def _skips(net: InferenceNet) -> _Skips:
    inner = net.net
    if isinstance(inner, LiteUNet):
        below = {f"encoder.{stage}": f"encoder.{stage + 1}.0.layers.0.conv" for stage in SKIPS}
    elif isinstance(inner, EncoderDecoder):
        levels = len(inner.decoder)
        stages = [*(f"encoder.{level}" for level in range(levels)), "bottom"]
        below = {stage: f"{lower}.0.conv" for stage, lower in pairwise(stages)}
    else:
        return {}
    beside = [f"decoder.{stage}.0.conv" for stage in reversed(range(len(below)))]
    return {stage: (below[stage], reader) for stage, reader in zip(below, beside, strict=True)}


def _quantise_stages(
    net: InferenceNet, skips: _Skips, measured: Mapping[str, Tensor], signed: Container[str]
) -> None:
    """Round the outputs of stages in the range of their readers; not SegNet's encoder, which its comparisons
    read.
    """
    stages = [f"decoder.{name}" for name, _ in net.net.get_submodule("decoder").named_children()]
    readers = dict(zip(stages, (*(f"{stage}.0.conv" for stage in stages[1:]), "head"), strict=True))
    if skips:
        lowest = f"encoder.{len(STAGES) - 1}" if isinstance(net.net, LiteUNet) else "bottom"
        readers[lowest] = "decoder.0.0.conv"
    readers |= {stage: beside for stage, (_, beside) in skips.items()}
    for stage, reader in readers.items():
        layers = net.net.get_submodule(stage)
        assert isinstance(layers, nn.Sequential)
        name = f"net.{reader}"
        layers.append(FakeQuantiser(measured[name], unsigned=name not in signed))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences modelopt, which prints what it inserts and warns of missing packages."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _modelopt() -> Any:
    try:
        from modelopt.torch import quantization  # type: ignore[import-untyped]
    except ImportError as error:
        # modelopt 0.47 imports requests and huggingface_hub without depending on them.
        raise MissingExtra("INT8 for TensorRT and ONNX", error.name or "nvidia-modelopt", "export") from error
    return quantization
