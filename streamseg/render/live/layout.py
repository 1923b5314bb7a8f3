"""Lays out the live display: banner, image with its margins, panel of figures, footer.

Sizes are in units of ``u``, a pixel of a 1920x1080 display; nothing overlaps the image.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.core.types import Roi

_BANNER, _NARROW_BANNER, _FOOTER = 132, 186, 44
_NARROW = 1700
"""Width in units below which the reason is placed under the state, not beside it."""
_MIN_WIDTH = 1500
"""Width in units of the narrowest layout: room for the longest state beside its symbol."""
_RULER, _FRAME = 76, 16
_BESIDE = (540, 700)
"""Minimum and maximum width of a panel beside the image, units."""
_BELOW = (292, 380)
"""Minimum and maximum height of a panel below it, units."""
_MIN_IMAGE_HEIGHT, _ENLARGED_WIDTH = 480, 1920
MIN_SIZE = (320, 240)
"""Smallest layout (width, height) in pixels."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rectangles in output pixels. ``image`` is None if no image is shown."""

    width: int
    height: int
    u: float
    """Pixels per unit."""
    beside: bool
    """The panel is beside the image, else below it."""
    banner: Roi
    body: Roi
    """Image, its margins, and the panel."""
    image: Roi | None
    panel: Roi
    footer: Roi

    @property
    def frame(self) -> int:
        """Width of the band around the image."""
        return max(2, round(_FRAME * self.u))

    @property
    def ruler(self) -> int:
        """Width of the ruler's margin left of that band."""
        return round(_RULER * self.u)

    @property
    def narrow(self) -> bool:
        """The reason is placed under the state."""
        return self.width < _NARROW * self.u

    @classmethod
    def fit(cls, size: tuple[int, int], shown: tuple[int, int] | None) -> Layout:
        """Fit an image of ``shown`` (width, height) pixels into a display of ``size`` (width, height)."""
        width, height = max(MIN_SIZE[0], size[0]), max(MIN_SIZE[1], size[1])
        u = min(width / _MIN_WIDTH, height / 1080)
        if shown is None:
            return cls._arrange(width, height, u, None, beside=width >= height)
        images = {beside: _largest(width, height, u, shown, beside=beside) for beside in (True, False)}
        beside = images[True][0] >= images[False][0]
        return cls._arrange(width, height, u, images[beside], beside=beside)

    @classmethod
    def natural(cls, shown: tuple[int, int] | None) -> Layout:
        """Lay out around an image at its own size, or enlarged to 480 rows; even sizes, as H.264 requires."""
        if shown is None:
            return cls.fit((1280, 720), None)
        scale = max(1.0, min(_MIN_IMAGE_HEIGHT / shown[1], _ENLARGED_WIDTH / shown[0]))
        wide, tall = max(1, round(shown[0] * scale)), max(1, round(shown[1] * scale))
        beside = wide <= 1.5 * tall
        if beside:
            u = tall / (1080 - _NARROW_BANNER - _FOOTER - 2 * _FRAME)
            width = max(wide + (_RULER + 2 * _FRAME + _BESIDE[0]) * u, 1280 * u)
            height = 1080 * u
        else:
            u = wide / (1280 - _RULER - 2 * _FRAME)
            width = 1280 * u
            height = tall + (_NARROW_BANNER + _FOOTER + 2 * _FRAME + _BELOW[0]) * u
        return cls._arrange(_nearest_even(width), _nearest_even(height) + 2, u, (wide, tall), beside=beside)

    @classmethod
    def _arrange(
        cls, width: int, height: int, u: float, image: tuple[int, int] | None, *, beside: bool
    ) -> Layout:
        top = round((_NARROW_BANNER if width < _NARROW * u else _BANNER) * u)
        footer = round(_FOOTER * u)
        body = Roi(0, top, width, max(1, height - top - footer))
        wide, tall = image or (1, 1)
        margins = round((_RULER + 2 * _FRAME) * u), round(2 * _FRAME * u)
        if beside:
            free = width - wide - margins[0]
            side = round(min(max(free, _BESIDE[0] * u), _BESIDE[1] * u))
            panel = Roi(max(0, width - side), top, min(side, width), body.height)
            room = width - side, body.height
        else:
            free = body.height - tall - margins[1]
            side = round(min(max(free, _BELOW[0] * u), _BELOW[1] * u))
            panel = Roi(0, max(0, height - footer - side), width, min(side, height))
            room = width, body.height - side
        place = None
        if image is not None:
            left = max(0, room[0] - wide - margins[0]) // 2 + margins[0] - margins[1] // 2
            place = Roi(left, top + max(0, room[1] - tall) // 2, wide, tall)
        return cls(
            width,
            height,
            u,
            beside,
            Roi(0, 0, width, max(1, top)),
            body,
            place,
            panel,
            Roi(0, max(0, height - footer), width, max(1, footer)),
        )


def _largest(width: int, height: int, u: float, shown: tuple[int, int], *, beside: bool) -> tuple[int, int]:
    """Size (width, height) of the largest image that fits."""
    banner = _NARROW_BANNER if width < _NARROW * u else _BANNER
    wide = width - (_RULER + 2 * _FRAME) * u - (_BESIDE[0] * u if beside else 0)
    tall = height - (banner + _FOOTER + 2 * _FRAME) * u - (0 if beside else _BELOW[0] * u)
    scale = min(wide / shown[0], tall / shown[1])
    return max(1, int(shown[0] * scale)), max(1, int(shown[1] * scale))


def _nearest_even(value: float) -> int:
    return 2 * round(value / 2)
