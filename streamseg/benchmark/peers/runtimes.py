"""The same weights in other runtimes: improved U-Net as it ships, folded, one frame at a time.

Each gets the same frames, in turn, and as many threads as ours. Its answers are compared with those of
torch's eager FP32 before it is timed: a runtime that computes something else is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.backends.loading import load_backend, load_folder, shipped_engine
from streamseg.backends.openvino.backend import COMPUTES_IN, OpenVINOBackend, can_compute_in
from streamseg.backends.openvino.signal_stack import kept_signal_stack
from streamseg.benchmark.flops import work_of
from streamseg.benchmark.peers.peer import (
    Infer,
    Maker,
    Peer,
    agreement,
    five_digits,
    need,
    probes,
    version,
)
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.core.errors import EngineError, MissingExtra
from streamseg.core.types import Backend, Planes, Tensor
from streamseg.engines.checkpoint import Checkpoint
from streamseg.export.build import build_engine
from streamseg.segmentation.preprocess import to_tensor

OURS_FP32, OURS_INT8 = "streamseg, OpenVINO FP32", "streamseg, OpenVINO INT8"
OURS_BF16 = "streamseg, OpenVINO BF16"
PLAIN = "OpenVINO by itself"
INT8_SKIPPED = "the shipped INT8 engine takes inputs of {} only"
COMPILES = "it compiles for up to a minute, which --quick has no time for"


@dataclass(repr=False)
class RuntimeContext:
    """What the runtimes have in common."""

    checkpoint: Checkpoint
    """Folded, at the size that is measured."""
    tensors: Sequence[Tensor]
    """The frames, as they enter the net; at least one."""
    threads: int
    folder: Path
    """Scratch."""
    calibration: Sequence[Tensor] = ()
    """Other frames, on which a peer's INT8 is calibrated."""

    @property
    def size(self) -> tuple[int, int]:
        return self.checkpoint.spec.height, self.checkpoint.spec.width

    @cached_property
    def checks(self) -> Sequence[Tensor]:
        """What answers are compared on: the frames, and after them phantoms with a nerve."""
        return [*self.tensors, *(to_tensor(image, self.checkpoint.spec) for image in probes())]

    @cached_property
    def reference(self) -> Sequence[Planes]:
        """Torch's answers to them, eager FP32; without torch those of our FP32 engine."""
        try:
            engine = self.torch_engine("eager")
        except MissingExtra:
            engine = self.own_engine()
        return [engine.infer(tensor) for tensor in self.checks]

    @cached_property
    def onnx(self) -> Path:
        """Our ONNX file of the net. Raises MissingExtra without the packages that write it."""
        return write_onnx(self.checkpoint, self.folder)

    @cached_property
    def gflop(self) -> float | None:
        """Work of one frame; None without torch, which counts it."""
        try:
            return work_of(self.checkpoint.net, *self.size).flop / 1e9
        except MissingExtra:
            return None

    def torch_engine(self, form: str) -> Backend:
        """Raises MissingExtra without torch, and EngineError."""
        need("the peer torch", "torch")
        from streamseg.backends.eager import EagerBackend

        return EagerBackend(self.checkpoint, folded=True, form=form, threads=self.threads)

    def own_engine(self) -> Backend:
        """Our FP32 engine. Raises EngineError."""
        return OpenVINOBackend.from_checkpoint(self.checkpoint, OURS_FP32, threads=self.threads)

    def start(self, *, onnx: bool = False) -> float:
        """Make what runtimes share, so that it counts for none of them; then the time, monotonic seconds."""
        _ = self.reference, self.gflop, onnx and self.onnx
        return time.monotonic()


def write_onnx(checkpoint: Checkpoint, folder: Path) -> Path:
    """Our ONNX file of a net. Raises MissingExtra without the packages that write it."""
    for package in ("torch", "onnx", "onnxscript"):
        need("writing the ONNX file that peers read", package)
    from streamseg.export.builders.onnx import export_onnx
    from streamseg.nets.inference import inference_net

    path = folder / "model.onnx"
    shape = (1, 1, checkpoint.spec.height, checkpoint.spec.width)
    export_onnx(inference_net(checkpoint), shape, path)
    return path


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runtime that is ready to be called."""

    infer: Infer
    settings: str
    """How it was set up."""
    precision: str = "fp32"


Load = Callable[[RuntimeContext], Loaded]


def runtimes(context: RuntimeContext, *, quick: bool) -> dict[str, Maker]:
    """What makes each runtime ready, by its name; ours come first."""

    def maker(name: str, load: Load, package: str, *, against: str = OURS_FP32, onnx: bool = False) -> Maker:
        return partial(runtime_peer, context, name, load, package, against=against, onnx=onnx)

    bf16 = can_compute_in("bf16")  # then OpenVINO does by default
    forms = {
        "torch eager": "eager",
        "torch eager, channels last": "channels-last",
        "torch.compile": "compile",
    }
    return {
        OURS_FP32: maker(OURS_FP32, _ours_fp32, "openvino"),
        OURS_INT8: maker(OURS_INT8, _ours_int8, "openvino", against=OURS_INT8),
        **({OURS_BF16: maker(OURS_BF16, _ours_bf16, "openvino", against=OURS_BF16)} if bf16 else {}),
        **{name: maker(name, partial(_torch, form, quick), "torch") for name, form in forms.items()},
        "ONNX Runtime": maker("ONNX Runtime", _onnxruntime, "onnxruntime", onnx=True),
        "ONNX Runtime, INT8": maker(
            "ONNX Runtime, INT8", _onnxruntime_int8, "onnxruntime", against=OURS_INT8, onnx=True
        ),
        "OpenCV DNN": maker("OpenCV DNN", partial(_opencv, "ENGINE_AUTO"), "opencv-python", onnx=True),
        "OpenCV DNN, classic": maker(
            "OpenCV DNN, classic", partial(_opencv, "ENGINE_CLASSIC"), "opencv-python", onnx=True
        ),
        PLAIN: maker(PLAIN, _plain_openvino, "openvino", against=OURS_BF16 if bf16 else OURS_FP32, onnx=True),
    }


def runtime_peer(
    context: RuntimeContext,
    name: str,
    load: Load,
    package: str,
    *,
    against: str = OURS_FP32,
    onnx: bool = False,
) -> Peer:
    """Load a runtime, check its answers, and make a peer of it. ``onnx``: it reads our ONNX file."""
    if package == "onnxruntime":  # to import it is not part of loading
        need("the peer ONNX Runtime", package)
    began = context.start(onnx=onnx)
    loaded = load(context)
    infer = loaded.infer
    infer(context.tensors[0])
    ready_s = time.monotonic() - began
    found = agreement(
        infer,
        context.checks,
        context.reference,
        precision=loaded.precision,
        threshold=context.checkpoint.spec.threshold,
    )
    turns = cycle(context.tensors)

    def call() -> int:
        infer(next(turns))
        return 1

    row = PeerRow(
        name=name,
        ours=name == against,
        against=against,
        precision=loaded.precision,
        version=version(package),
        settings=loaded.settings,
        frames=1,
        gflop=context.gflop,
        difference=five_digits(found["difference"]),
        mask_dice=five_digits(found["mask_dice"]),
        ready_s=five_digits(ready_s),
    )
    return Peer(row, call)


def _ours_fp32(context: RuntimeContext) -> Loaded:
    return Loaded(context.own_engine().infer, "built from the weights, without torch")


def _ours_bf16(context: RuntimeContext) -> Loaded:
    """The engine that ``streamseg export --precision bf16`` builds."""
    folder = context.folder / "bf16"
    manifest = build_engine(context.checkpoint, "openvino", "bf16", folder)
    engine = load_folder(folder, threads=context.threads)
    shares = engine.precision_found() if isinstance(engine, OpenVINOBackend) else {}
    found = max(shares, key=lambda kind: shares[kind], default=manifest.precision)
    return Loaded(engine.infer, "built as by export --precision bf16", found)


def _ours_int8(context: RuntimeContext) -> Loaded:
    engine: Backend = load_backend(shipped_engine(context.checkpoint.net), threads=context.threads)
    own = engine.spec.height, engine.spec.width
    if own != context.size:
        raise EngineError(INT8_SKIPPED.format("x".join(map(str, own))))
    return Loaded(engine.infer, "the shipped engine", "int8")


def _torch(form: str, quick: bool, context: RuntimeContext) -> Loaded:
    if form == "compile" and quick:
        raise EngineError(COMPILES)
    return Loaded(context.torch_engine(form).infer, "default settings")


def _onnxruntime(context: RuntimeContext) -> Loaded:
    return Loaded(_session(context, context.onnx), "our ONNX file, default settings")


def _onnxruntime_int8(context: RuntimeContext) -> Loaded:
    settings = f"quantised by its own quantize_static on {len(context.calibration)} phantoms"
    return Loaded(_session(context, _quantised(context)), settings, "int8")


def _session(context: RuntimeContext, path: Path) -> Infer:
    ort = need("the peer ONNX Runtime", "onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = context.threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed, answer = session.get_inputs()[0].name, session.get_outputs()[0].name

    def infer(tensor: Tensor) -> Planes:
        found: Planes = session.run([answer], {feed: tensor})[0][0]
        return found

    return infer


def _quantised(context: RuntimeContext) -> Path:
    """Our ONNX file in INT8 by onnxruntime's own means, in the form that it runs fastest on a processor."""
    tools = need("the INT8 of ONNX Runtime", "onnxruntime.quantization")
    shapes = need("the INT8 of ONNX Runtime", "onnxruntime.quantization.shape_inference")
    if not context.calibration:
        raise EngineError("no frames were given to calibrate it on")
    prepared, path = context.folder / "prepared.onnx", context.folder / "int8.onnx"
    shapes.quant_pre_process(str(context.onnx), str(prepared), skip_symbolic_shape=True)

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Gives the calibration's frames one by one."""

        def __init__(self) -> None:
            self._frames = iter(context.calibration)

        def get_next(self) -> dict[str, Tensor] | None:
            frame = next(self._frames, None)
            return None if frame is None else {"frame": frame}

    # Signed activations take a kernel that is six times as slow on processors with VNNI.
    tools.quantize_static(
        str(prepared), str(path), Reader(), per_channel=True, activation_type=tools.QuantType.QUInt8
    )
    return path


def _opencv(engine: str, context: RuntimeContext) -> Loaded:
    import cv2

    choice = getattr(cv2.dnn, engine, None)
    if choice is None and engine == "ENGINE_CLASSIC":
        raise EngineError(f"OpenCV {cv2.__version__} has but one engine, which is the other row's")
    read: Callable[..., Any] = cv2.dnn.readNetFromONNX
    net = read(str(context.onnx)) if choice is None else read(str(context.onnx), choice)

    def infer(tensor: Tensor) -> Planes:
        before = cv2.getNumThreads()
        cv2.setNumThreads(context.threads)  # the process has one thread for everything else of OpenCV
        try:
            net.setInput(tensor)
            return np.array(net.forward()[0])
        finally:
            cv2.setNumThreads(before)

    which = "the default" if engine == "ENGINE_AUTO" else "the classic"
    return Loaded(infer, f"our ONNX file, {which} engine")


def _plain_openvino(context: RuntimeContext) -> Loaded:
    import openvino as ov

    core = ov.Core()
    with kept_signal_stack():
        compiled = core.compile_model(
            core.read_model(context.onnx), "CPU", {"INFERENCE_NUM_THREADS": context.threads}
        )
    # By default it computes in bfloat16 on processors that have it.
    asked = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def infer(tensor: Tensor) -> Planes:
        return np.array(compiled(tensor)[0][0])

    return Loaded(infer, "our ONNX file by read_model, default settings", COMPUTES_IN.get(asked, "fp32"))
