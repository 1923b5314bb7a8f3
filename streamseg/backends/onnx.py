"""Runs ONNX files by onnxruntime on the processor, as a check of what OpenVINO and TensorRT compute."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg.core.engine_info import Described, EngineInfo
from streamseg.core.errors import EngineError, MissingExtra, one_line
from streamseg.core.hardware import thread_count, usable_cores
from streamseg.core.types import Planes, Tensor
from streamseg.engines.manifest import Manifest, read_verified

if TYPE_CHECKING:
    import onnx

FILE_NAME = "model.onnx"
PROVIDERS = ["CPUExecutionProvider"]
_ERRORS_ONLY = 3
"""onnxruntime's log level; at lower ones it reports every node that it cannot optimise."""

TYPES = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "UINT8": "int8"}
"""Names of precisions by ONNX's names of element types."""
NO_ARITHMETIC = (
    "Cast",
    "Constant",
    "DequantizeLinear",
    "Expand",
    "QuantizeLinear",
    "ReorderInput",
    "ReorderOutput",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that convert values and compute nothing."""


class OnnxBackend(Described):
    """A net run by onnxruntime. ``infer`` may be called from ``lanes`` threads at a time."""

    def __init__(
        self,
        model: bytes,
        info: EngineInfo,
        *,
        threads: int | None = None,
        throughput: bool = False,
    ) -> None:
        """Make a session of an ONNX file's bytes.

        ``info`` describes the engine but for its lanes, which this determines. ``threads`` None follows
        STREAMSEG_THREADS; all of them work on one frame, or with ``throughput`` each on one of its own.
        Raises EngineError for a file that onnxruntime refuses or that does not fit ``info``, UsageError for
        an invalid number of threads, MissingExtra.
        """
        count = thread_count(threads)
        self.info = replace(info, lanes=(count or usable_cores()) if throughput else 1)
        self._threads = 1 if throughput else (count or 0)
        self._model = model
        self._shape = (info.batch, 1, self.spec.height, self.spec.width)
        self._session: Any = self._session_of(model)
        answer = (info.batch, len(self.spec.structures), self.spec.height, self.spec.width)
        self._input, self._output = _ports(self._session, self._shape, answer, self.name)

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, H, W), of a tensor (batch, 1, H, W); of more than one frame
        (batch, structures, H, W).

        The caller may keep it. Raises EngineError.
        """
        session = self._session
        if session is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        if tensor.shape != self._shape:
            raise EngineError(f"engine {self.name} takes a tensor {self._shape}, received {tensor.shape}")
        feed = {self._input: np.ascontiguousarray(tensor, np.float32)}
        try:
            probability: Planes = session.run([self._output], feed)[0]
        except Exception as error:
            raise EngineError(f"engine {self.name} failed: {one_line(error, 200)}; load it again") from error
        return probability[0] if self.info.batch == 1 else probability

    def precision_found(self) -> dict[str, float]:
        """Share of the layers, 0..1, by the type that they compute in.

        Read from the graph that onnxruntime makes of the file for this processor, by the type of each
        operator's input; operators that only convert values are left out. If the processor has no kernels for
        half precision, onnxruntime computes in float32, and an fp16 file is reported as fp32. Raises
        EngineError after :meth:`close`.
        """
        if self._session is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        try:
            import onnx
        except ImportError as error:
            raise MissingExtra("inspecting an ONNX engine", "onnx", "export") from error
        with tempfile.TemporaryDirectory(prefix="streamseg-") as folder:
            path = Path(folder) / "optimised.onnx"
            self._session_of(self._model, path)
            return layer_shares(onnx.load(str(path)))

    def close(self) -> None:
        """Free the session. May be called twice."""
        self._session = None
        self._model = b""

    def _session_of(self, model: bytes, optimised: Path | None = None) -> Any:
        """A session; the graph that it runs is written to ``optimised``."""
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtra("an ONNX engine", "onnxruntime", "export") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        try:
            return onnxruntime.InferenceSession(model, options, providers=PROVIDERS)
        # Its exceptions have no common base but Exception.
        except Exception as error:
            raise EngineError(
                f"onnxruntime {onnxruntime.__version__} cannot run engine {self.name}: "
                f"{one_line(error, 200)}; export it again with the installed version"
            ) from error


def load(
    folder: Path,
    manifest: Manifest,
    fingerprint: str,
    *,
    threads: int | None = None,
    throughput: bool = False,
) -> OnnxBackend:
    """Load an engine folder whose manifest fits this machine. Raises as :class:`OnnxBackend`, and
    EngineError for a file that is not the one that the manifest describes."""
    return OnnxBackend(
        read_verified(folder, manifest, FILE_NAME),
        manifest.info(fingerprint),
        threads=threads,
        throughput=throughput,
    )


def layer_shares(model: onnx.ModelProto) -> dict[str, float]:
    """Share of a graph's computing operators, 0..1, by the precision of their inputs.

    onnxruntime's own operators defeat type inference, so types are followed through the graph, whose nodes
    are in the order of execution.
    """
    graph = model.graph
    types = {value.name: _type(value.type.tensor_type.elem_type) for value in graph.input}
    types |= {value.name: _type(value.data_type) for value in graph.initializer}
    counts: dict[str, int] = {}
    for node in graph.node:
        read = types.get(node.input[0], "other") if node.input else "other"
        types |= dict.fromkeys(node.output, _written(node, read, types))
        if node.op_type not in NO_ARITHMETIC:
            counts[read] = counts.get(read, 0) + 1
    return {name: counts[name] / sum(counts.values()) for name in sorted(counts)}


def _written(node: onnx.NodeProto, read: str, types: dict[str, str]) -> str:
    """The type of a node's output, given the type of its input."""
    if node.op_type == "Cast":
        return next(_type(entry.i) for entry in node.attribute if entry.name == "to")
    if node.op_type == "QuantizeLinear":
        return types.get(node.input[2], "int8") if len(node.input) > 2 else "int8"
    if node.op_type == "DequantizeLinear":
        return types.get(node.input[1], "fp32")
    if node.op_type == "GreaterOrEqual":
        return "other"  # bool
    return read


def _type(element: int) -> str:
    import onnx

    return TYPES.get(onnx.TensorProto.DataType.Name(element), "other")


def _ports(session: Any, taken: tuple[int, ...], given: tuple[int, ...], name: str) -> tuple[str, str]:
    """Names of the input and the output. Raises EngineError unless there is one of each, of these shapes."""
    names = []
    for what, ports, shape in (
        ("input", session.get_inputs(), taken),
        ("output", session.get_outputs(), given),
    ):
        found = [f"{port.type} {port.shape}" for port in ports]
        if found != [f"tensor(float) {list(shape)}"]:
            raise EngineError(
                f"engine {name} has the {what} {', '.join(found)}, its manifest asks for tensor(float) "
                f"{list(shape)}; export it again"
            )
        names.append(ports[0].name)
    return names[0], names[1]
