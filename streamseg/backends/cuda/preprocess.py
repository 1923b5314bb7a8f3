"""Preprocessing as tensor arithmetic: grey levels, letterbox and scaling, for a GPU or the processor.

OpenCV resizes rows and columns separately, so that a resize is two matrix products with fixed weights. The
result is that of :class:`streamseg.core.geometry.Letterbox` and :mod:`streamseg.segmentation.preprocess` to
within one grey level (OpenCV rounds the weights of its linear resize to 11 bits). Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from streamseg.core.geometry import Letterbox
from streamseg.core.types import InputSpec

GREY_WEIGHTS = (3735, 19235, 9798)
"""BT.601 for blue, green and red, times 2**15 and rounded, as in OpenCV."""


def resize_weights(source: int, target: int, *, area: bool) -> npt.NDArray[np.float32]:
    """Matrix (target, source) that resizes a line of ``source`` pixels; each of its rows sums to 1.

    ``area`` averages over each target pixel's share of the line, as cv2.INTER_AREA does when it shrinks;
    otherwise the two nearest pixels are interpolated, as with cv2.INTER_LINEAR.
    """
    scale = source / target
    if area:
        starts = np.arange(target)[:, None] * scale
        pixels = np.arange(source)
        shares = np.minimum(starts + scale, pixels + 1) - np.maximum(starts, pixels)
        shares = np.clip(shares, 0, None)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)
    centres = np.clip((np.arange(target) + 0.5) * scale - 0.5, 0, source - 1)
    left = np.floor(centres).astype(np.int64)
    part = (centres - left).astype(np.float32)
    weights = np.zeros((target, source), np.float32)
    lines = np.arange(target)
    weights[lines, left] = 1 - part
    weights[lines, np.minimum(left + 1, source - 1)] += part
    return weights


class DevicePreprocess:
    """Turns frames of one size and kind into the net's input, on a device.

    Called with a uint8 tensor (batch, h, w), or (batch, h, w, 3) in BGR; returns (batch, 1, H, W) of the
    net's type. Its kernels depend on shapes alone, so that it can be captured in a CUDA graph.
    """

    def __init__(
        self, height: int, width: int, spec: InputSpec, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        """For frames of (height, width)."""
        box = Letterbox(height, width, spec.height, spec.width)
        left, top, inner_width, inner_height = box.content
        area = inner_width < width
        self._spec = spec
        self._dtype = dtype
        self._padding = (
            left,
            spec.width - left - inner_width,
            top,
            spec.height - top - inner_height,
        )
        self._same = (inner_height, inner_width) == (height, width)
        rows = resize_weights(height, inner_height, area=area)
        columns = resize_weights(width, inner_width, area=area)
        self._rows = torch.from_numpy(rows).to(device)
        self._columns = torch.from_numpy(np.ascontiguousarray(columns.T)).to(device)
        # The order that multiplies less.
        self._rows_first = width * inner_height * (height + inner_width) <= height * inner_width * (
            width + inner_height
        )

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        grey = to_grey(images)
        if not self._same:
            with exact_products(images.device):
                if self._rows_first:
                    grey = (self._rows @ grey) @ self._columns
                else:
                    grey = self._rows @ (grey @ self._columns)
            # Rounded to whole grey levels, as in training.
            grey = grey.round_().clamp_(0, 255)
        return scaled(F.pad(grey, self._padding), self._spec, self._dtype)[:, None]


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """Whole grey levels, float32 (batch, h, w), of uint8 (batch, h, w) or (batch, h, w, 3) in BGR."""
    if images.ndim == 3:
        return images.float()
    # Integers below 2**24, which float32 holds exactly.
    blue, green, red = GREY_WEIGHTS
    total = images[..., 0].float().mul_(blue)
    total.add_(images[..., 1], alpha=green).add_(images[..., 2], alpha=red)
    return total.add_(1 << 14).mul_(2.0**-15).floor_()


def scaled(grey: torch.Tensor, spec: InputSpec, dtype: torch.dtype) -> torch.Tensor:
    """Grey levels 0..255 in the net's units and type: ``(grey / 255 - mean) / std``, same shape."""
    return (grey.float() * (1 / (255 * spec.std)) - spec.mean / spec.std).to(dtype)


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Compute products and convolutions of float32 in full while kernels are chosen and enqueued.

    On a GPU torch convolves float32 in TF32 by default, whose 10 bits would cost grey levels: an FP32 engine
    would not be one.
    """
    if device.type != "cuda":
        yield
        return
    # Setting the old switches also sets the new ones, but not the reverse; torch refuses to read the old ones
    # (which its compiler does) if the two disagree.
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    switches: tuple[Any, ...] = (matmul, cudnn.conv, cudnn.rnn)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    products = _readable(torch.get_float32_matmul_precision)
    convolutions = _readable(lambda: cudnn.allow_tf32)
    try:
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = False
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            cudnn.allow_tf32 = convolutions
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def _readable(read: Callable[[], Any]) -> Any:
    """The value of one of torch's switches, or None if others were set so that it cannot be read."""
    try:
        return read()
    except RuntimeError:
        return None
