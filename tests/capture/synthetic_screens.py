"""Synthetic ultrasound machine screens with a known image area, for testing the screen finder.

Everything is drawn from a seed: speckle (log-compressed, filtered complex noise over layered tissue),
a rectangle or a fan, dark or light user interfaces with text, rulers, grey bar, logos, buttons, an
ECG trace and a clock, and optionally the artefacts of JPEG or H.264.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import av
import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Grey, Image, Roi

SIZES = ((640, 480), (800, 600), (1280, 720), (1920, 1080))
THEMES = ((0, 0, 0), (1, 1, 1), (40, 36, 34), (55, 50, 60), (90, 60, 30), (225, 225, 225), (250, 245, 240))
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Screen:
    """Frames of one screen and where its ultrasound image is."""

    frames: list[Image]
    box: Roi
    about: str


def tissue(
    rng: np.random.Generator, height: int, width: int, count: int, *, attenuation: float
) -> list[Grey]:
    """Speckle of layered tissue that drifts and decorrelates over ``count`` frames; uint8 (height, width)."""
    margin = 2 * count + 4
    rows, columns = height // 2 + margin, width // 2 + margin
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    layers = cv2.GaussianBlur(
        rng.normal(size=(rows, columns)).astype(np.float32), (0, 0), columns / 9, sigmaY=rows / 30
    )
    layers = layers / layers.std() * 6 - attenuation * depth

    def field() -> npt.NDArray[np.float32]:
        noise = rng.normal(size=(rows, columns, 2)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 1.6, sigmaY=0.8)
        return smooth / smooth.std()

    base, gain, frames = field(), rng.uniform(25, 62), []
    for t in range(count):
        now = base if t == 0 else np.float32(0.95) * base + np.float32(0.3) * field()
        power = 20 * np.log10(np.hypot(now[..., 0], now[..., 1]) + 1e-3) + layers
        power = power[margin // 2 + t : margin // 2 + t + height // 2 + 1, t : t + width // 2 + 1]
        grey = np.clip((power + gain * 0.75) * (200 / 60), 0, 255)
        frames.append(cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8))
    return frames


def fan(
    rng: np.random.Generator, height: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Roi]:
    """A fan within (height, width): angle and depth of each pixel in 0..1 (-1 outside), and its box."""
    half, near = np.radians(rng.uniform(28, 48)), rng.choice([0.02, 0.08, 0.3, 0.45])
    unit_width, unit_height = 2 * np.sin(half), 1 - near * np.cos(half)
    radius = min(width / unit_width, height / unit_height) * 0.99
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    y = np.arange(height, dtype=np.float32) + near * np.cos(half) * radius
    distance, angle = np.hypot(x[None], y[:, None]) / radius, np.arctan2(x[None], y[:, None])
    inside = (np.abs(angle) <= half) & (distance >= near) & (distance <= 1)
    across = np.where(inside, (angle / half + 1) / 2, -1).astype(np.float32)
    along = np.where(inside, (distance - near) / (1 - near), -1).astype(np.float32)
    left, top, box_width, box_height = cv2.boundingRect(inside.astype(np.uint8))
    return across, along, Roi(left, top, box_width, box_height)


def _text(
    rng: np.random.Generator, image: Image, x: int, y: int, lines: int, scale: float, ink: tuple[int, ...]
) -> None:
    words = [
        "MI 0.7",
        "TIS 0.2",
        "Gn 62",
        "DR 66 dB",
        "Frq 6.5 MHz",
        "Depth 4.5 cm",
        "Nerve",
        "L14-6",
        "Page 1/3",
        "SMITH^A",
    ]
    for line in range(lines):
        where = (x, y + int((line + 1) * 32 * scale))
        cv2.putText(image, str(rng.choice(words)), where, FONT, scale, ink, 1 + int(scale > 0.7), cv2.LINE_AA)


def interface(rng: np.random.Generator, width: int, height: int) -> tuple[Image, Roi, str]:
    """A screen without its image, and the free area left for it."""
    theme = THEMES[rng.integers(len(THEMES))]
    image = np.full((height, width, 3), theme, np.uint8)
    light = theme[0] > 128
    ink = (30, 30, 30) if light else tuple(int(v) for v in rng.integers(140, 255, 3))
    scale = height / 1080 * rng.uniform(0.7, 1.3) + 0.15
    left, right = (int(width * rng.uniform(0.09, 0.2)) for _ in range(2))
    top, bottom = (int(height * rng.uniform(0.03, 0.12)) for _ in range(2))
    bar = tuple(int(np.clip(v + rng.integers(-40, 40), 0, 255)) for v in theme)
    if rng.random() < 0.5:
        image[: top - 2] = bar
    if rng.random() < 0.4:
        image[:, : left - int(rng.integers(0, 30))] = bar
    for x in range(10, width - 150, max(160, width // 5)):
        _text(rng, image, x, 0, 1, scale, ink)
    _text(rng, image, width - right + 12, top, int(rng.integers(3, 14)), scale, ink)
    _text(rng, image, 6, int(height * 0.55), int(rng.integers(0, 6)), scale * 0.9, ink)
    if rng.random() < 0.8:
        ramp = np.linspace(255, 0, height // 3).astype(np.uint8)
        image[top + 20 : top + 20 + len(ramp), 12 : 12 + width // 50] = ramp[:, None, None]
    if rng.random() < 0.7:
        centre = (width - right // 2, int(height * 0.8))
        cv2.circle(image, centre, right // 4, tuple(int(v) for v in rng.integers(0, 255, 3)), -1, cv2.LINE_AA)
        cv2.putText(image, "US", (centre[0] - right // 5, centre[1]), FONT, scale * 1.5, (255, 255, 255), 2)
    if rng.random() < 0.6:
        for x in range(left, width - right - 90, 110):
            cv2.rectangle(image, (x, height - bottom + 6), (x + 100, height - 4), bar, -1)
            _text(rng, image, x + 4, height - bottom, 1, scale * 0.8, ink)
    return image, Roi(left, top, width - left - right, height - top - bottom), f"theme={theme[0]}"


def _rulers(rng: np.random.Generator, image: Image, box: Roi, ink: tuple[int, ...]) -> None:
    gap = int(rng.integers(1, 12))
    x = box.x - gap if rng.random() < 0.5 else box.x + box.width + gap
    for k in range(0, 11):
        y = box.y + k * (box.height - 1) // 10
        length = 8 if k % 5 == 0 else 4
        cv2.line(image, (x, y), (x - length if x < box.x else x + length, y), ink, 1)
    if rng.random() < 0.4:
        cv2.line(image, (x, box.y), (x, box.y + box.height), ink, 1)
    if rng.random() < 0.3:
        cv2.putText(image, "0", (max(0, box.x - 22), box.y + 14), FONT, 0.5, ink, 1, cv2.LINE_AA)


def compress(frames: list[Image], method: str, quality: int) -> list[Image]:
    """The frames after JPEG (quality 0..100) or H.264 (quality is the CRF); ``none`` leaves them."""
    if method == "jpeg":
        return [
            cv2.imdecode(cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1) for f in frames
        ]
    if method == "h264":
        buffer = BytesIO()
        with av.open(buffer, "w", format="matroska") as out:
            stream = out.add_stream(
                "libx264", rate=Fraction(30), options={"crf": str(quality), "preset": "ultrafast"}
            )
            stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
            out.mux(stream.encode())
        buffer.seek(0)
        with av.open(buffer) as read:
            return [f.to_ndarray(format="bgr24") for f in read.decode(video=0)]
    return frames


def make_screen(
    seed: int,
    *,
    count: int | None = None,
    content: list[Grey] | None = None,
    size: tuple[int, int] | None = None,
    attenuation: float | None = None,
) -> Screen:
    """One screen. ``content`` replaces the speckle by given rectangular images (all of one size).

    With an ``attenuation`` (dB over the depth) of 35 or more the deep part is all but black.
    """
    rng = np.random.default_rng(seed)
    width, height = size or SIZES[rng.integers(len(SIZES))]
    count = count or int(rng.choice([1, 4, 8]))
    frozen = count > 1 and rng.random() < 0.2
    blank, room, about = interface(rng, width, height)
    curved = content is None and rng.random() < 0.45
    drawn = float(rng.choice([0, 15, 35, 55]))
    attenuation = drawn if attenuation is None else attenuation
    if curved:
        across, along, box = fan(rng, room.height, room.width)
        squares = tissue(rng, 400, 400, 1 if frozen else count, attenuation=attenuation)
        images = [cv2.remap(s, across * 399, along * 399, cv2.INTER_LINEAR, borderValue=0) for s in squares]
        images = [np.where(across < 0, 0, np.maximum(i, 2)) for i in images]
        box = Roi(room.x + box.x, room.y + box.y, box.width, box.height)
        mask = (across >= 0)[
            box.y - room.y : box.y - room.y + box.height, box.x - room.x : box.x - room.x + box.width
        ]
        images = [
            i[box.y - room.y : box.y - room.y + box.height, box.x - room.x : box.x - room.x + box.width]
            for i in images
        ]
        if rng.random() < 0.5:
            blank[room.y : room.y + room.height, room.x : room.x + room.width] = 0
    else:
        wide, high = int(room.width * rng.uniform(0.55, 1)), int(room.height * rng.uniform(0.7, 1))
        if content is not None:
            zoom = min(room.width / content[0].shape[1], room.height / content[0].shape[0])
            wide, high = int(content[0].shape[1] * zoom), int(content[0].shape[0] * zoom)
        left, top = rng.integers(0, room.width - wide + 1), rng.integers(0, room.height - high + 1)
        box = Roi(int(room.x + left), int(room.y + top), wide, high)
        images = tissue(rng, high, wide, 1 if frozen else count, attenuation=attenuation)
        if content is not None:
            images = [cv2.resize(c, (wide, high), interpolation=cv2.INTER_AREA) for c in content]
        mask = np.ones((high, wide), np.bool_)
    ink = (40, 40, 40) if blank[0, -1, 0] > 128 else (200, 210, 200)
    _rulers(rng, blank, box, ink)
    trace = rng.random() < 0.3
    frames = []
    for t in range(count):
        frame = blank.copy()
        view = box.crop(frame)
        view[mask] = images[t % len(images)][mask][:, None]
        cv2.putText(frame, f"12:{t:02d}", (width - 110, 22), FONT, 0.5, ink, 1, cv2.LINE_AA)
        if trace:
            x = np.arange(0, box.width, 3)
            y = box.y + box.height - 30 - 18 * np.abs(np.sin((x + 9 * t) / 25)) ** 9
            points = np.stack([x + box.x, y], 1).astype(np.int32)
            cv2.polylines(frame, [points], False, (60, 220, 60), 1, cv2.LINE_AA)
        frames.append(frame)
    method = str(rng.choice(["none", "jpeg", "h264"]))
    quality = int(rng.integers(55, 96)) if method == "jpeg" else int(rng.integers(16, 30))
    kind = "fan" if curved else "rectangle"
    what = f"{kind} {width}x{height} n={count} frozen={frozen} att={attenuation} {about} {method}{quality}"
    return Screen(compress(frames, method, quality), box, what)
