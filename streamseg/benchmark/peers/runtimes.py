"""The same weights in other runtimes: improved U-Net as it ships, folded, one frame at a time.

Each gets the same frames, in turn, and as many threads as ours. What one gives is compared with torch's
eager FP32 before it is timed: a runtime that computes something else is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.backends.loading import DEFAULT, load_backend
from streamseg.backends.openvino.backend import COMPUTES_IN
from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.peers.material import OURS_FP32, OURS_INT8, Material, Probability, runtime_peer
from streamseg.benchmark.peers.peer import Maker, Peer, need
from streamseg.core.errors import EngineError
from streamseg.core.types import Backend, Tensor

INT8_SKIPPED = "the shipped INT8 engine takes inputs of {} only"
COMPILES = "it compiles for up to a minute, which --quick has no time for"


def runtimes(material: Material, *, quick: bool) -> dict[str, Maker]:
    """What makes each runtime ready, by its name; ours come first."""
    forms = {
        "torch eager": "eager",
        "torch eager, channels last": "channels-last",
        "torch.compile": "compile",
    }
    return {
        OURS_FP32: partial(_ours_fp32, material),
        OURS_INT8: partial(_ours_int8, material),
        **{name: partial(_torch, material, name, form, quick) for name, form in forms.items()},
        "ONNX Runtime": partial(_onnxruntime, material, "ONNX Runtime", "fp32"),
        "ONNX Runtime, INT8": partial(_onnxruntime, material, "ONNX Runtime, INT8", "int8"),
        "OpenCV DNN": partial(_opencv, material, "OpenCV DNN", "ENGINE_AUTO"),
        "OpenCV DNN, classic": partial(_opencv, material, "OpenCV DNN, classic", "ENGINE_CLASSIC"),
        "OpenVINO by itself": partial(_plain_openvino, material, "OpenVINO by itself"),
    }


def _ours_fp32(material: Material) -> Peer:
    began = material.start()
    engine = material.own_engine()
    remark = "built from the weights, without torch"
    return runtime_peer(material, OURS_FP32, engine.infer, began=began, package="openvino", remark=remark)


def _ours_int8(material: Material) -> Peer:
    began = material.start()
    engine: Backend = load_backend(DEFAULT, threads=material.threads)
    own = engine.spec.height, engine.spec.width
    if own != material.size:
        raise EngineError(INT8_SKIPPED.format("x".join(map(str, own))))
    return runtime_peer(
        material,
        OURS_INT8,
        engine.infer,
        began=began,
        against=OURS_INT8,
        precision="int8",
        package="openvino",
        remark="the shipped engine",
    )


def _torch(material: Material, name: str, form: str, quick: bool) -> Peer:
    if form == "compile" and quick:
        raise EngineError(COMPILES)
    began = material.start()
    engine = material.torch_engine(form)
    return runtime_peer(material, name, engine.infer, began=began, package="torch", remark="default settings")


def _onnxruntime(material: Material, name: str, precision: str) -> Peer:
    ort = need("the peer ONNX Runtime", "onnxruntime")
    began = material.start(onnx=True)
    path, remark = material.onnx, "our ONNX file, default settings"
    if precision == "int8":
        path = _quantised(material)
        remark = f"quantised by its own quantize_static on {len(material.calibration)} phantoms"
    options = ort.SessionOptions()
    options.intra_op_num_threads = material.threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed, answer = session.get_inputs()[0].name, session.get_outputs()[0].name

    def infer(tensor: Tensor) -> Probability:
        found: Probability = session.run([answer], {feed: tensor})[0][0, 0]
        return found

    against = OURS_INT8 if precision == "int8" else OURS_FP32
    return runtime_peer(
        material,
        name,
        infer,
        began=began,
        against=against,
        precision=precision,
        package="onnxruntime",
        remark=remark,
    )


def _quantised(material: Material) -> Path:
    """Our ONNX file in INT8 by onnxruntime's own means, in the form that it runs fastest on a processor."""
    tools = need("the INT8 of ONNX Runtime", "onnxruntime.quantization")
    shapes = need("the INT8 of ONNX Runtime", "onnxruntime.quantization.shape_inference")
    if not material.calibration:
        raise EngineError("no frames were given to calibrate it on")
    prepared, path = material.folder / "prepared.onnx", material.folder / "int8.onnx"
    shapes.quant_pre_process(str(material.onnx), str(prepared), skip_symbolic_shape=True)

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Gives the calibration's frames one by one."""

        def __init__(self) -> None:
            self._frames = iter(material.calibration)

        def get_next(self) -> dict[str, Tensor] | None:
            frame = next(self._frames, None)
            return None if frame is None else {"frame": frame}

    # Signed activations take a kernel that is six times as slow on processors with VNNI.
    tools.quantize_static(
        str(prepared), str(path), Reader(), per_channel=True, activation_type=tools.QuantType.QUInt8
    )
    return path


def _opencv(material: Material, name: str, engine: str) -> Peer:
    import cv2

    began = material.start(onnx=True)
    choice = getattr(cv2.dnn, engine, None)
    if choice is None and engine == "ENGINE_CLASSIC":
        raise EngineError(f"OpenCV {cv2.__version__} has but one engine, which is the other row's")
    read: Callable[..., Any] = cv2.dnn.readNetFromONNX
    net = read(str(material.onnx)) if choice is None else read(str(material.onnx), choice)

    def infer(tensor: Tensor) -> Probability:
        before = cv2.getNumThreads()
        cv2.setNumThreads(material.threads)  # the process has one thread for everything else of OpenCV
        try:
            net.setInput(tensor)
            return np.array(net.forward()[0, 0])
        finally:
            cv2.setNumThreads(before)

    which = "the default" if engine == "ENGINE_AUTO" else "the classic"
    remark = f"our ONNX file, {which} engine"
    return runtime_peer(material, name, infer, began=began, package="opencv-python", remark=remark)


def _plain_openvino(material: Material, name: str) -> Peer:
    import openvino as ov

    began = material.start(onnx=True)
    core = ov.Core()
    with kept_signal_stack():
        compiled = core.compile_model(
            core.read_model(material.onnx), "CPU", {"INFERENCE_NUM_THREADS": material.threads}
        )
    # Where the processor has bfloat16 it takes that by itself.
    asked = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    precision = COMPUTES_IN.get(asked, "fp32")

    def infer(tensor: Tensor) -> Probability:
        return np.array(compiled(tensor)[0][0, 0])

    remark = "our ONNX file by read_model, default settings"
    return runtime_peer(
        material, name, infer, began=began, precision=precision, package="openvino", remark=remark
    )
