"""Simulates colour-blind eyes, and measures how far colours are apart.

``python -m tests.render.colour_vision`` prints the figures of docs/log.md.
Machado, Oliveira and Fernandes (2009), severity 1: their matrices take linear sRGB. Differences are those of
CIELAB (1976), contrasts those of WCAG 2.
"""

import numpy as np

EYES = {
    "usual": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def seen(bgr, eyes: str) -> np.ndarray:
    """A colour (blue, green, red of 0..255) as these eyes see it, linear red, green, blue of 0..1."""
    rgb = np.array(bgr[::-1]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(EYES[eyes] @ linear, 0, 1)


def difference(one, other, eyes: str) -> float:
    """Distance of two colours in CIELAB; 2.3 is just noticeable."""
    return float(np.linalg.norm(_lab(seen(one, eyes)) - _lab(seen(other, eyes))))


def contrast(one, other, eyes: str) -> float:
    """Ratio of the luminances of two colours, 1 to 21."""
    dark, bright = sorted(float(_XYZ[1] @ seen(colour, eyes)) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    ratio = _XYZ @ linear / _WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


if __name__ == "__main__":
    from streamseg.render.overlay import CYAN, ORANGE, YELLOW

    for eyes in EYES:
        apart = ", ".join(f"{difference(CYAN, other, eyes):.0f}" for other in (YELLOW, ORANGE))
        greys = ", ".join(f"{contrast(CYAN, (grey,) * 3, eyes):.1f}" for grey in (32, 64, 128, 200))
        print(f"{eyes}: vessel from nerve, from low confidence: {apart}; vessel on grey: {greys}")
