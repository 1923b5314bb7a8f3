"""Stand-ins for torch-tensorrt and for a TensorRT with a parser, both on the processor."""

import logging
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests.backends.fake_tensorrt import FakeTensorRT, plan_of

SIZE = (16, 32)


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

    def __init__(self, *, typed: bool = True, wrong: str = "") -> None:
        super().__init__(version="10.15.1" if typed else "8.6.0")
        outer = self
        flags = {"STRONGLY_TYPED": 1} if typed else {"EXPLICIT_BATCH": 0}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**flags)
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        names = ("TF32",) if typed else ("TF32", "FP16", "INT8", "BF16")
        self.BuilderFlag = SimpleNamespace(**{name: name for name in names})
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
                plan = plan_of(torch.export.export(torch.nn.Sigmoid(), (example,)), example)
                return memoryview(plan.replace(b'"10.15.1"', f'"{outer.__version__}"'.encode()))

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
