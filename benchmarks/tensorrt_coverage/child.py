"""One net through torch-tensorrt-rtx and TensorRT-RTX on a machine without a GPU; prints one line of JSON.

    python -m benchmarks.tensorrt_coverage.child segnet fp16 64 96

Runs in the environment that ``benchmarks.tensorrt_coverage`` makes. torch's questions about a GPU get made-up
answers, and engines are built for compute capability 8.9 without being loaded. It finds out whether every
operator converts, into how many engines, and whether TensorRT builds a plan; nothing about numbers or speed.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from streamseg.core.errors import StreamsegError
from streamseg.export.builders.tensorrt import TYPES, plan_from_onnx
from streamseg.export.builders.tensorrt_torch import plan_from_torch
from streamseg.export.source import resolve
from streamseg.nets.inference import inference_net

CAPABILITY = "SM89"
ANSWERS: dict[str, Any] = {
    "get_device_capability": (8, 9),
    "get_device_properties": SimpleNamespace(
        name="none", major=8, minor=9, total_memory=24 << 30, multi_processor_count=100
    ),
    "get_device_name": "none",
    "current_device": 0,
    "is_available": False,
    "mem_get_info": (20 << 30, 24 << 30),
    "set_device": None,
    "empty_cache": None,
    "synchronize": None,
}
"""What torch.cuda is made to say."""


def pretend() -> Any:
    """torch_tensorrt, imported by a torch that answers as if it had a GPU."""
    torch._C._CudaDeviceProperties = SimpleNamespace  # type: ignore[attr-defined]
    for name, value in ANSWERS.items():
        setattr(torch.cuda, name, lambda *_, _value=value, **__: _value)
    import torch_tensorrt

    torch_tensorrt.Device.to = lambda self, kind: torch.device("cpu") if kind is torch.device else 0
    return torch_tensorrt


def quantised(net: nn.Module, size: tuple[int, int]) -> nn.Module:
    """The INT8 form, its ranges measured on noise: they decide nothing here."""
    from streamseg.core.types import InputSpec
    from streamseg.export.builders.modelopt import quantise

    images = [np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8) for seed in range(2)]
    return quantise(net, images, InputSpec(*size, 0.25, 0.25, 0.5), preset="performance")  # type: ignore[arg-type]


def coverage(front: Any, net: nn.Module, x: torch.Tensor, precision: str) -> dict[str, Any]:
    """Operators that convert, of how many, and engines that come of them, by a dry run."""
    from streamseg.export.builders.tensorrt_torch import _plain_quantisation, _scalar_ranges

    _scalar_ranges(net)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), _plain_quantisation(precision):
        front.dynamo.compile(
            torch.export.export(net, (x,), strict=False),
            arg_inputs=[front.Input(tuple(x.shape), dtype=x.dtype)],
            dryrun=True,
            min_block_size=1,
        )
    total, supported = re.findall(r"(\d+) Total Operators, of which (\d+) operators", said.getvalue())[0]
    engines = len(re.findall(r"TRT Engine #\d+", said.getvalue()))
    return {"operators": int(total), "converted": int(supported), "engines": engines}


class _Engine:
    """What a loaded engine is asked for while it is built."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan

    def serialize(self) -> Any:
        return self.plan

    def get_aliased_input_tensor(self, name: str) -> None:
        return None


class _Runtime:
    def __init__(self, logger: Any) -> None: ...

    def deserialize_cuda_engine(self, plan: Any) -> _Engine:
        return _Engine(plan)


def by_torch(front: Any, net: nn.Module, x: torch.Tensor, precision: str) -> dict[str, Any]:
    """Bytes of a plan through torch-tensorrt, and the network's layers by the type that they read."""
    import tensorrt
    from torch_tensorrt.dynamo.conversion import _TRTInterpreter as Module

    original = Module.TRTInterpreter._populate_trt_builder_config
    layers: Counter[str] = Counter()

    def populate(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(self, *args, **kwargs)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(tensorrt.ComputeCapability, CAPABILITY), 0)
        network = self.ctx.net
        read = (network[i].get_input(0) for i in range(network.num_layers) if network[i].num_inputs)
        layers.update(tensor.dtype.name for tensor in read if tensor is not None)
        return config

    found: dict[str, Any] = {}
    with (
        mock.patch.object(Module.TRTInterpreter, "_populate_trt_builder_config", populate),
        mock.patch.object(Module.trt, "Runtime", _Runtime, create=True),
        tempfile.TemporaryDirectory() as scratch,
    ):
        try:
            found["plan_bytes"] = len(plan_from_torch(front, net, x, precision, Path(scratch)))
        except StreamsegError as error:
            found["refused"] = str(error)
    return found | {"network_layers": dict(sorted(layers.items()))}


def by_onnx(net: nn.Module, shape: tuple[int, int, int, int], precision: str) -> dict[str, Any]:
    """Bytes of a plan through ONNX and TensorRT-RTX's parser."""
    import tensorrt_rtx

    from streamseg.export.builders.onnx import HALF_QUANTISE_OPSET, OPSET, export_onnx

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        opset = HALF_QUANTISE_OPSET if precision == "int8" else OPSET
        export_onnx(net, shape, path, opset=opset, half=precision != "fp32")
        try:
            plan = plan_from_onnx(tensorrt_rtx, path.read_bytes(), precision, capability=CAPABILITY)
        except StreamsegError as error:
            return {"refused": str(error)}
    return {"plan_bytes": len(plan)}


def main() -> None:
    name, precision, height, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    front = pretend()
    net: nn.Module = inference_net(resolve(name, (height, width)))
    net = quantised(net, (height, width)) if precision == "int8" else net
    onnx = by_onnx(net, (1, 1, height, width), precision)
    kind = getattr(torch, TYPES[precision])
    x = torch.zeros((1, 1, height, width), dtype=kind)
    found = coverage(front, net.to(kind), x, precision)
    found |= {"torch_tensorrt": by_torch(front, net, x, precision), "onnx": onnx}
    print(json.dumps({"net": name, "precision": precision, "size": [height, width]} | found))


if __name__ == "__main__":
    main()
