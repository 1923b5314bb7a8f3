"""What tests of INT8 share."""

from importlib.util import find_spec

import numpy as np
import pytest

_MISSING = [name for name in ("modelopt", "requests", "huggingface_hub") if find_spec(name) is None]
needs_modelopt = pytest.mark.skipif(
    bool(_MISSING), reason=f"nvidia-modelopt cannot be used without {', '.join(_MISSING)}"
)


def images(count: int = 2) -> list[np.ndarray]:
    """Random pictures to measure ranges on."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 96), dtype=np.uint8) for _ in range(count)]
