"""Stand-ins for TensorRT and torch-tensorrt that run on the processor.

A plan of theirs holds a description and an exported program.
"""

import ctypes
import enum
import io
import json
import logging
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

SIZE = (16, 32)
"""Height and width of what :class:`Parsing` builds."""
TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
}
NAMES = {kind: name for name, kind in TYPES.items()}
WORDS = {
    "FLOAT": "Row major linear FP32",
    "HALF": "Channel major FP16 format where channel % 8 == 0",
    "BF16": "BFloat16",
    "INT8": "Thirty-two wide channel vectorized row major Int8 format",
}


def conv(kind: str, weights: str | None = None) -> dict[str, Any]:
    """A convolution as TensorRT's inspector describes it."""
    tensor = {"Name": "t", "Dimensions": [1, 8, 32, 48], "Format/Datatype": WORDS[kind]}
    layer = {"Name": "c", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
    return layer | ({"Weights": {"Type": weights, "Count": 72}} if weights else {})


class Doubler(torch.nn.Module):
    """A net whose probability is the sigmoid of twice its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(2 * x)


def plan_of(program: torch.export.ExportedProgram, example: torch.Tensor, **changes: Any) -> bytes:
    """A plan that runs a program."""
    kind = NAMES[example.dtype]
    about = {
        "version": "10.15.1",
        "ports": [["x", "INPUT", kind, list(example.shape)], ["y", "OUTPUT", kind, list(example.shape)]],
        "layers": [conv(kind)] * 4 + [{"Name": "r", "LayerType": "Reformat", "Inputs": []}],
    } | changes
    stored = io.BytesIO()
    torch.export.save(program, stored)
    return json.dumps(about).encode() + b"\n" + stored.getvalue()


def small_plan(shape: tuple[int, ...], kind: str = "HALF", **changes: Any) -> bytes:
    """A plan of :class:`Doubler`."""
    example = torch.zeros(shape, dtype=TYPES[kind])
    return plan_of(torch.export.export(Doubler(), (example,)), example, **changes)


class FakeTensorRT(ModuleType):
    """The module ``tensorrt``, as far as it is used."""

    def __init__(self, name: str = "tensorrt", version: str = "10.15.1") -> None:
        super().__init__(name)
        self.__version__ = version
        self.__spec__ = ModuleSpec(name, None)  # torch looks for some modules by name
        self.TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
        self.DataType = enum.Enum("DataType", [*TYPES])
        self.LayerInformationFormat = enum.Enum("LayerInformationFormat", ["JSON", "ONELINE"])
        self.fails_at_run = self.no_memory = self.refuses_buffers = self.no_runtime = False
        self.runs = 0
        outer = self

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING = range(3)

        class Runtime:
            def __init__(self, logger: Any) -> None:
                if outer.no_runtime:
                    raise TypeError("pybind11::init(): factory function returned nullptr")
                self.logger = logger

            def deserialize_cuda_engine(self, plan: bytes) -> Any:
                return _deserialised(outer, self.logger, plan)

        self.ILogger, self.Runtime = ILogger, Runtime


def _deserialised(trt: FakeTensorRT, logger: Any, plan: bytes) -> Any:
    try:
        text, _, stored = plan.partition(b"\n")
        about = json.loads(text)
    except ValueError:
        about = {}
    if about.get("version") != trt.__version__:
        logger.log(trt.ILogger.WARNING, "a warning")
        logger.log(trt.ILogger.ERROR, "Serialization assertion failed.\nVersion tag does not match.")
        logger.log(trt.ILogger.ERROR, "a consequence")
        return None
    return Engine(trt, about, torch.export.load(io.BytesIO(stored)).module())


class Engine:
    """ICudaEngine, IExecutionContext and the inspector in one."""

    def __init__(self, trt: FakeTensorRT, about: dict[str, Any], net: Any) -> None:
        self.trt, self.about, self.net = trt, about, net
        self.ports = {name: (mode, kind, shape) for name, mode, kind, shape in about["ports"]}
        self.num_io_tensors = len(self.ports)
        self.addresses: dict[str, int] = {}

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode[self.ports[name][0]]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.trt.DataType[self.ports[name][1]]

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.ports[name][2])

    def create_engine_inspector(self) -> "Engine":
        return self

    def get_engine_information(self, kind: Any) -> str:
        assert kind is self.trt.LayerInformationFormat.JSON
        return json.dumps({"Layers": self.about["layers"], "Bindings": [*self.ports]})

    def create_execution_context(self) -> "Engine | None":
        return None if self.trt.no_memory else self

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return not self.trt.refuses_buffers

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 0
        if self.trt.fails_at_run:
            return False
        (x,), (y,) = ([n for n, p in self.ports.items() if p[0] == way] for way in ("INPUT", "OUTPUT"))
        with torch.inference_mode():
            self._at(y).copy_(self.net(self._at(x)))
        self.trt.runs += 1
        return True

    def _at(self, name: str) -> torch.Tensor:
        """The memory at a tensor's address."""
        _, kind, shape = self.ports[name]
        count = torch.Size(shape).numel()
        memory = (ctypes.c_char * (count * TYPES[kind].itemsize)).from_address(self.addresses[name])
        return torch.frombuffer(memory, dtype=TYPES[kind]).reshape(shape)


class Front(ModuleType):
    """torch-tensorrt, as far as it is used: its conversion has the parameters of 2.11 or those of 2.13."""

    def __init__(self, *, version: str = "2.11.0", package: str = "tensorrt", **plan: Any) -> None:
        super().__init__("torch_tensorrt")
        self.__version__ = version
        self.__spec__ = ModuleSpec("torch_tensorrt", None)
        self.tensorrt_package_name = package
        self.Input = lambda shape, dtype: SimpleNamespace(shape=shape, dtype=dtype)
        self.plan = plan
        self.fault: Exception | None = None
        self.settings: dict[str, Any] = {}
        self.inputs: list[Any] = []
        newer = self._converted
        older = self._typed
        self.dynamo = SimpleNamespace(
            convert_exported_program_to_serialized_trt_engine=older if version < "2.13" else newer
        )

    def _typed(
        self,
        program: Any,
        inputs: Any = None,
        *,
        arg_inputs: Any = None,
        enabled_precisions: Any = (),
        use_explicit_typing: bool = True,
        require_full_compilation: bool = False,
        min_block_size: int = 5,
        immutable_weights: bool = True,
        disable_tf32: bool = False,
        optimization_level: int | None = None,
        cache_built_engines: bool = False,
        reuse_cached_engines: bool = False,
        timing_cache_path: str = "/tmp/t",
        **kwargs: Any,
    ) -> bytes:
        self.settings = dict(locals())
        assert use_explicit_typing
        return self._plan(program, arg_inputs)

    def _converted(
        self,
        program: Any,
        inputs: Any = None,
        *,
        arg_inputs: Any = None,
        require_full_compilation: bool = False,
        min_block_size: int = 5,
        immutable_weights: bool = True,
        disable_tf32: bool = False,
        optimization_level: int | None = None,
        cache_built_engines: bool = False,
        reuse_cached_engines: bool = False,
        timing_cache_path: str = "/tmp/t",
        **kwargs: Any,
    ) -> bytes:
        self.settings = dict(locals())
        assert not kwargs, "swallowed silently"
        return self._plan(program, arg_inputs)

    def _plan(self, program: Any, arg_inputs: Any) -> bytes:
        self.inputs = arg_inputs
        if self.fault is not None:
            log = logging.getLogger("torch_tensorrt.dynamo._compiler")
            try:
                raise self.fault
            except Exception as error:
                log.error("While interpreting the module got an error: %s", error, exc_info=True)
            raise UnboundLocalError("cannot access local variable 'interpreter_result'")
        example = torch.zeros(arg_inputs[0].shape, dtype=arg_inputs[0].dtype)
        return plan_of(program, example, **self.plan)


class Parsing(FakeTensorRT):
    """A TensorRT with a parser: plans from it say what they were asked for."""

    def __init__(self, *, wrong: str = "") -> None:
        super().__init__(version="10.15.1")
        outer = self
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.ComputeCapability = SimpleNamespace(SM89="SM89")
        self.config = SimpleNamespace(flags={"TF32"}, capability=None)
        self.config.set_flag = self.config.flags.add
        self.config.clear_flag = self.config.flags.remove
        self.config.set_compute_capability = lambda kind, index: setattr(self.config, "capability", kind)
        self.network_flags, self.models = 0, []  # type: ignore[var-annotated]

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def create_network(self, flags: int) -> str:
                outer.network_flags = flags
                return "network"

            def create_builder_config(self) -> Any:
                return outer.config

            def build_serialized_network(self, network: str, config: Any) -> Any:
                if wrong == "build":
                    self.logger.log(outer.ILogger.ERROR, "Myelin: no kernel\nat line 3")
                    return None
                example = torch.zeros((1, 1, *SIZE))
                return memoryview(plan_of(torch.export.export(torch.nn.Sigmoid(), (example,)), example))

        class OnnxParser:
            num_errors = 2

            def __init__(self, network: str, logger: Any) -> None:
                assert network == "network"

            def parse(self, model: bytes) -> bool:
                outer.models.append(model)
                return wrong != "parse"

            def get_error(self, index: int) -> str:
                return f"unsupported operator {index}"

        self.Builder, self.OnnxParser = Builder, OnnxParser
