"""Pieces of the way through torch-tensorrt."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from streamseg.export.builders import tensorrt_torch


@pytest.fixture
def modelopt() -> None:
    pytest.importorskip("modelopt.torch.quantization", reason="modelopt does not load", exc_type=ImportError)


def test_plans_tell_their_layers_types(monkeypatch: pytest.MonkeyPatch) -> None:
    class TRTInterpreter:
        def _populate_trt_builder_config(self, strict: bool = False) -> Any:
            return SimpleNamespace(profiling_verbosity="names only", strict=strict)

    name = "torch_tensorrt.dynamo.conversion._TRTInterpreter"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(TRTInterpreter=TRTInterpreter))
    for parent in ("torch_tensorrt", "torch_tensorrt.dynamo", "torch_tensorrt.dynamo.conversion"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    trt = SimpleNamespace(ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"))
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    with tensorrt_torch._detailed():
        config = TRTInterpreter()._populate_trt_builder_config(True)
        assert (config.profiling_verbosity, config.strict) == ("detailed", True)
    assert TRTInterpreter()._populate_trt_builder_config().profiling_verbosity == "names only"


@pytest.mark.usefixtures("modelopt")
def test_quantising_constants_needs_no_compiler_of_cuda() -> None:
    x, amax = torch.linspace(-2, 2, 9), torch.tensor(1.27)
    with tensorrt_torch._plain_quantisation("int8"):
        found = torch.ops.tensorrt.quantize_op(x, amax, 8, 0, False, False)
        halved = torch.ops.tensorrt.quantize_op(x.half(), amax, 8, 0, False, False)
    assert found.tolist() == pytest.approx([-1.28, -1.28, -1.0, -0.5, 0, 0.5, 1.0, 1.27, 1.27])
    assert halved.dtype == torch.float16
