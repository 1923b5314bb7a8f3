"""Runs a net on a GPU: fixed buffers, one CUDA graph from upload to download, one wait at the end.

It works with any net that is a function of torch tensors, such as torch.compile's or TensorRT's. On the
processor the same arithmetic runs without stream and graph. Needs torch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streamseg.backends.cuda.preprocess import DevicePreprocess, exact_products, scaled
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, first_line
from streamseg.core.types import Grey, Image, Mask, Planes, Tensor

Forward = Callable[[torch.Tensor], torch.Tensor]
"""A net: from (batch, 1, H, W) of its type to the probabilities (batch, structures, H, W), on the current
stream."""

FRAME_SIZES = 4
"""Number of frame sizes whose graphs are cached; a source has one size."""
WARM_UP = 3
"""Runs before a graph is captured: libraries choose algorithms and allocate work space in the first."""


@dataclass(frozen=True, slots=True)
class _DeviceContext:
    """Device, stream (None on the processor) and the graphs' memory pool (None without graphs)."""

    device: torch.device
    stream: torch.cuda.Stream | None = None
    pool: Any = None


class CudaRunner:
    """A net on a device, with everything around it.

    Each kind of input (tensor, letterboxed image, frame of some size) has its own buffers and graph, made at
    the first input of that kind. One caller at a time; others wait. Results belong to the caller.
    """

    def __init__(
        self,
        forward: Forward,
        info: EngineInfo,
        *,
        dtype: torch.dtype = torch.float16,
        graphs: bool = True,
    ) -> None:
        """``forward`` may compile itself in its first call, and may return a buffer of its own.

        ``info`` gives name, input, batch and device. ``graphs`` False runs without CUDA graphs, kernel by
        kernel. Raises EngineError without a GPU.
        """
        self.name = info.name
        self.spec = info.spec
        self.batch = info.batch
        self.dtype = dtype
        self.device = usable_device(info.device, info.name)
        self.forward: Forward | None = forward
        self._lock = threading.Lock()
        self._paths: dict[str, _InputGraph] = {}
        self._framed: OrderedDict[tuple[object, ...], _InputGraph] = OrderedDict()
        self._place = _DeviceContext(self.device)
        if self.device.type == "cuda":
            with translated(info.name):
                stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
                # Graphs are replayed one at a time and copy their results out themselves, so one pool serves
                # all.
                self._place = _DeviceContext(
                    self.device, stream, torch.cuda.graph_pool_handle() if graphs else None
                )

    def infer(self, tensor: Tensor) -> Planes:
        """Probabilities, float32 (structures, H, W), of a tensor (batch, 1, H, W); of more than one frame
        (batch, structures, H, W).

        Raises EngineError, also for a tensor of another shape.
        """
        shape = (self.batch, 1, self.spec.height, self.spec.width)
        self._expect(tensor, shape, np.float32, "tensor")
        return self._fixed("tensor", shape, torch.float32, lambda x: x.to(self.dtype), tensor)

    def infer_grey(self, image: Grey) -> Planes:
        """The same for a letterboxed image, uint8 (H, W), or (batch, H, W) for more than one."""
        shape = (self.batch, self.spec.height, self.spec.width)
        self._expect(image, shape if self.batch > 1 else shape[1:], np.uint8, "letterboxed image")
        return self._fixed(
            "grey", shape, torch.uint8, lambda x: scaled(x, self.spec, self.dtype)[:, None], image
        )

    def mask(self, image: Image) -> Mask:
        """The pixels of a frame whose probability of nerve reaches the threshold, bool (H, W) at the net's
        resolution.

        ``image`` uint8 (h, w) grey or (h, w, 3) BGR, of any size; with a batch (batch, h, w[, 3]), and the
        mask is (batch, H, W). Only the frame goes to the device, and only the mask comes back.
        Raises EngineError.
        """
        return self._frame("mask", image).view(np.bool_)

    def probability(self, image: Image) -> npt.NDArray[np.float32]:
        """The probability of nerve that :meth:`mask` compares with the threshold, float32. Raises
        EngineError."""
        return self._frame("probability", image)

    def close(self) -> None:
        """Free buffers, graphs and the net. May be called twice, and from any thread."""
        with self._lock:
            for path in (*self._paths.values(), *self._framed.values()):
                path.close()
            self._paths.clear()
            self._framed.clear()
            self.forward = None

    def _fixed(
        self,
        kind: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        before: Forward,
        array: npt.NDArray[Any],
    ) -> npt.NDArray[Any]:
        """Run an input of the net's own shape."""
        with self._lock, translated(self.name):
            if kind not in self._paths:
                self._paths[kind] = self._path(before, "planes", shape, dtype)
            return self._single(self._paths[kind].run(array))

    def _frame(self, result: str, image: Image) -> npt.NDArray[Any]:
        """Run a frame, or a batch of them, of any size."""
        sides = image.shape if self.batch == 1 else image.shape[1:]
        whole = image.dtype == np.uint8 and (len(sides) == 2 or (len(sides) == 3 and sides[2] == 3))
        if not whole or 0 in sides or (self.batch > 1 and image.shape[0] != self.batch):
            stacked = "" if self.batch == 1 else f"{self.batch} stacked "
            raise EngineError(
                f"engine {self.name} takes {stacked}frames uint8 (h, w) or (h, w, 3), "
                f"received {image.dtype} {image.shape}"
            )
        key = (result, *sides)
        with self._lock, translated(self.name):
            path = self._framed.get(key)
            if path is None:
                before = DevicePreprocess(sides[0], sides[1], self.spec, dtype=self.dtype, device=self.device)
                path = self._path(before, result, (self.batch, *sides), torch.uint8)
                self._framed[key] = path
                if len(self._framed) > FRAME_SIZES:
                    self._framed.popitem(last=False)[1].close()
            self._framed.move_to_end(key)
            return self._single(path.run(image))

    def _path(self, before: Forward, result: str, shape: tuple[int, ...], dtype: torch.dtype) -> _InputGraph:
        forward = self.forward
        if forward is None:
            raise EngineError(f"engine {self.name} is closed; load it again")
        size = (self.batch, len(self.spec.structures), self.spec.height, self.spec.width)
        name, threshold = self.name, self.spec.threshold
        full = self.dtype == torch.float32

        def compute(x: torch.Tensor) -> torch.Tensor:
            with exact_products(self.device) if full else nullcontext():
                probability = forward(before(x))
            if probability.shape != size:
                raise EngineError(
                    f"engine {name} gave a map {tuple(probability.shape)}, its specification says {size}; "
                    "export it again"
                )
            # In float32, because a half number just above the threshold may be rounded to it.
            found = probability.float()
            if result == "planes":
                return found
            return (found[:, 0] >= threshold).to(torch.uint8) if result == "mask" else found[:, 0]

        kind = torch.uint8 if result == "mask" else torch.float32
        downloads = size if result == "planes" else (size[0], *size[2:])
        return _InputGraph(compute, shape, dtype, self._place, downloads=downloads, kind=kind)

    def _single(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array[0] if self.batch == 1 else array

    def _expect(self, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: type, what: str) -> None:
        if array.shape != shape or array.dtype != dtype:
            raise EngineError(
                f"engine {self.name} takes a {what} {np.dtype(dtype)} {shape}, "
                f"received {array.dtype} {array.shape}"
            )


class _InputGraph:
    """The buffers of one kind of input, and on a GPU the graph from upload to download."""

    def __init__(
        self,
        compute: Forward,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        place: _DeviceContext,
        *,
        downloads: tuple[int, ...],
        kind: torch.dtype,
    ) -> None:
        """``shape`` and ``dtype`` are those of the input, ``downloads`` and ``kind`` those of the output."""
        self._stream = place.stream
        pinned = place.stream is not None
        self._compute = compute
        self._host_in = torch.zeros(shape, dtype=dtype, pin_memory=pinned)
        self._host_out = torch.zeros(downloads, dtype=kind, pin_memory=pinned)
        self._in = self._host_in.numpy()
        self._out = self._host_out.numpy()
        self._device_in = torch.zeros(shape, dtype=dtype, device=place.device) if pinned else self._host_in
        self._graph: torch.cuda.CUDAGraph | None = None
        if place.stream is not None:
            self._warm_up(place.stream)
            if place.pool is not None:
                self._graph = self._captured(place.stream, place.pool)

    def run(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The net's answer to this input, as a copy."""
        np.copyto(self._in, array.reshape(self._in.shape))
        if self._stream is None:
            self._enqueue()
        else:
            with torch.cuda.stream(self._stream):
                if self._graph is None:
                    self._enqueue()
                else:
                    self._graph.replay()
            self._stream.synchronize()
        return self._out.copy()

    def close(self) -> None:
        """Free the graph's memory."""
        if self._graph is not None:
            self._graph.reset()
            self._graph = None

    @torch.no_grad()
    def _enqueue(self) -> None:
        """Upload, compute, download, in the current stream's order."""
        if self._device_in is not self._host_in:
            self._device_in.copy_(self._host_in, non_blocking=True)
        self._host_out.copy_(self._compute(self._device_in), non_blocking=True)

    def _warm_up(self, stream: torch.cuda.Stream) -> None:
        stream.wait_stream(torch.cuda.current_stream(stream.device))  # the weights were made there
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._enqueue()
        stream.synchronize()

    def _captured(self, stream: torch.cuda.Stream, pool: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU during the capture.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._enqueue()
        return graph


def usable_device(device: str, name: str) -> torch.device:
    """The torch device of this name. Raises EngineError if there is none."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise EngineError(f"engine {name}: {device!r} is not a device; use 'cuda' or 'cpu'") from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            f"engine {name} runs on an NVIDIA GPU, and torch {torch.__version__} finds none; "
            "check nvidia-smi, install a torch built for CUDA, or choose an openvino engine"
        )
    if wanted.type not in ("cuda", "cpu"):
        raise EngineError(f"engine {name} runs on 'cuda' or 'cpu', received {device!r}")
    return torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else wanted


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn torch's errors into EngineError: one line with the remedy."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"engine {name} found too little free GPU memory ({first_line(error)}); "
            "close other programs on the GPU, or use a smaller batch or size"
        ) from error
    except RuntimeError as error:
        raise EngineError(
            f"engine {name} failed on the device: {first_line(error)}; load it again"
        ) from error
