"""The messages to the pages: one per view, image and metadata together.

A message is binary: the length of the JSON in four bytes (little endian), the JSON (UTF-8), then the JPEG of
the image region, or nothing if the page already has that image. Times in the JSON are milliseconds of the
server's monotonic clock; lengths and points are pixels of the region, the centre of its top-left pixel at
(0, 0). Nothing outside the region is ever encoded: the rest of a machine's screen carries patients' names.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from streamseg.core.errors import SinkError
from streamseg.core.latency import Percentiles
from streamseg.core.outline_distance import Contour, nerve_vessel_distance_mm
from streamseg.core.printable import printable
from streamseg.core.spec import VESSEL
from streamseg.core.types import Frame, Roi
from streamseg.core.view import Figures, View, without_expired_outline
from streamseg.render.overlay import shows_vessels

_GREY_TOLERANCE = 4
"""Difference of channels that is still grey: video codecs add as much, and eyes do not see it."""
_MAX_SIDE = 65_500
"""Largest side in pixels of a JPEG written by OpenCV."""
_MAX_PIXELS = 16_000_000
"""Limit on pixels of a JPEG: two 4K screens. A hundred megapixels for each of many pages fill the memory."""
_MAX_TEXT = 300
"""Limit on characters of a reason or status: a server's words are in it."""
_SLIM = 0.25
"""Tolerance in pixels when points of an outline are dropped."""


@dataclass(slots=True, repr=False)
class Packet:
    """A view encoded for any number of pages."""

    view: View
    image_number: int
    """Number of the image that the view shows: pages that have it need no JPEG. 0: no image."""
    jpeg: bytes
    _bodies: dict[bool, str] = field(default_factory=dict)

    def message(self, now_ns: int, known: int) -> bytes:
        """The message to send at ``now_ns`` to a page whose last image was number ``known``.

        From the view's expiry on it contains no outline.
        """
        view = without_expired_outline(self.view, now_ns)
        outlined = view.segmentation is not None
        if outlined not in self._bodies:
            self._bodies[outlined] = json.dumps(_body(view, self.image_number), allow_nan=False)[1:]
        life = 0.0 if view.expires_ns is None else (view.expires_ns - now_ns) / 1e6
        age = None if view.frame is None else round((now_ns - view.frame.captured_ns) / 1e6, 3)
        head = json.dumps({"sent": now_ns / 1e6, "life": round(life, 3), "age": age})[:-1]
        text = f"{head}, {self._bodies[outlined]}".encode()
        return struct.pack("<I", len(text)) + text + (b"" if self.image_number == known else self.jpeg)


def encode_jpeg(frame: Frame, roi: Roi, quality: int, max_side: int | None = None) -> bytes:
    """Encode a frame's region as JPEG, grey if it shows no colour; ``quality`` 1..100. Raises SinkError.

    A region of more than 16 megapixels, or with a side of more than ``max_side`` pixels, is made smaller;
    points of outlines stay pixels of the region.
    """
    if max(roi.width, roi.height) > _MAX_SIDE:
        raise SinkError(
            f"the web page cannot show an image of {roi.width}x{roi.height} pixels; "
            "choose a smaller region with --roi, or another display"
        )
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray) and pixels.is_colourless(roi, _GREY_TOLERANCE, 0.0):
        region = frame.grey(roi)
    else:
        region = frame.crop(roi)
    if region.ndim == 3:
        blue, green, red = cv2.split(region)
        if max(cv2.norm(blue, green, cv2.NORM_INF), cv2.norm(green, red, cv2.NORM_INF)) <= _GREY_TOLERANCE:
            region = np.asarray(green, np.uint8)
    factor = 0.999 * (_MAX_PIXELS / (region.shape[0] * region.shape[1])) ** 0.5
    if max_side is not None:
        factor = min(factor, max_side / max(region.shape[:2]))
    if factor < 0.999:
        # Down to half the size two rows are enough, which takes a sixth of the time of the mean of all.
        how = cv2.INTER_LINEAR if factor >= 0.5 else cv2.INTER_AREA
        region = np.asarray(cv2.resize(region, None, fx=factor, fy=factor, interpolation=how), np.uint8)
    _, data = cv2.imencode(".jpg", region, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _body(view: View, image_number: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "view": view.number,
        "at": view.at_ns / 1e6,
        "state": view.state.value,
        "reason": printable(view.reason)[:_MAX_TEXT],
        "picture": image_number,
        "figures": _figures(view.figures),
    }
    if view.frame is not None:
        body |= {
            "frame": view.frame.index,
            "captured": view.frame.captured_ns / 1e6,
            "spacing": _spacing(view.frame.spacing_mm),
        }
    if view.roi is not None:
        body["size"] = [view.roi.width, view.roi.height]
    if view.segmentation is not None and view.roi is not None and view.expires_ns is not None:
        body |= {
            "expires": view.expires_ns / 1e6,
            "outline": _outline(view.segmentation.contours, view.roi),
            "found": view.segmentation.state.value,
            "confidence": _finite(view.segmentation.confidence),
            "area_px": view.segmentation.area_px,
            "area_mm2": _finite(view.segmentation.area_mm2),
        }
        if (vessel := view.segmentation.others.get(VESSEL)) is not None:
            body["vessel"] = {
                "outline": _outline(vessel.contours if shows_vessels(view.segmentation) else (), view.roi),
                "area_px": vessel.area_px,
                "area_mm2": _finite(vessel.area_mm2),
                "distance_mm": _finite(_distance_mm(view)),
            }
    return body


def _distance_mm(view: View) -> float | None:
    """Between the outlines of nerve and vessel where they are closest."""
    if view.segmentation is None or view.frame is None:
        return None
    return nerve_vessel_distance_mm(view.segmentation, view.frame.spacing_mm)


def _outline(contours: Sequence[Contour], roi: Roi) -> list[list[int]]:
    """Closed polygons in region pixels, each flat: x, y, x, y, ..."""
    polygons = []
    for contour in contours:
        points = (contour - np.array((roi.x, roi.y))).astype(np.int32).reshape(-1, 1, 2)
        polygons.append(np.asarray(cv2.approxPolyDP(points, _SLIM, True)).reshape(-1).tolist())
    return polygons


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "offered": figures.offered,
        "processed": figures.processed,
        "dropped": figures.dropped,
        "reconnects": figures.reconnects,
        "offered_fps": _finite(figures.offered_fps),
        "processed_fps": _finite(figures.processed_fps),
        "age": None if figures.age is None else _percentiles(figures.age),
        "stages": {name: _percentiles(times) for name, times in figures.stages.items()},
        "recording": figures.recording and figures.recording[:_MAX_TEXT],
        "clock": figures.clock,
    }


def _spacing(spacing_mm: tuple[float, float] | None) -> list[float] | None:
    if spacing_mm is None or not all(0 < value < math.inf for value in spacing_mm):
        return None
    return list(spacing_mm)


def _percentiles(times: Percentiles) -> list[float | None]:
    """p50, p95, p99 and maximum, milliseconds."""
    return [_finite(value) for value in (times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms)]


def _finite(value: float | None) -> float | None:
    """A number rounded for JSON; null for NaN and infinity, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else round(value, 3)
