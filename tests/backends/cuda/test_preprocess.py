"""Preprocessing as tensor arithmetic, on the processor: the same images as OpenCV's, in full precision."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="the GPU's preprocessing needs torch (extra 'tensorrt')")

from streamseg.backends.cuda.preprocess import DevicePreprocess, exact_products, resize_weights, to_grey  # noqa: E402
from streamseg.core.types import InputSpec  # noqa: E402
from streamseg.segmentation.preprocess import normalise, to_tensor  # noqa: E402
from streamseg.segmentation.preprocess import to_grey as cv2_grey  # noqa: E402

SPEC = InputSpec(32, 48, mean=0.3, std=0.2, threshold=0.5)
RANDOM = np.random.default_rng(0)
CPU = torch.device("cpu")


def smooth(*shape: int) -> npt.NDArray[np.uint8]:
    """Noise with some structure, uint8."""
    noise = RANDOM.integers(0, 256, shape, np.uint8)
    return np.asarray(cv2.blur(noise, (3, 3)), np.uint8)


def test_grey_levels_are_opencvs() -> None:
    image = RANDOM.integers(0, 256, (97, 131, 3), np.uint8)
    assert np.array_equal(to_grey(torch.from_numpy(image)[None])[0].numpy(), cv2_grey(image))


def test_resizing_agrees_with_opencv_to_a_grey_level() -> None:
    seen = set()
    for _ in range(120):
        height, width = (int(n) for n in RANDOM.integers(5, 300, 2))
        target = InputSpec(*(int(n) for n in RANDOM.integers(16, 200, 2)), 0.3, 0.2, 0.5)
        image = smooth(height, width, 3) if len(seen) % 2 else smooth(height, width)
        before = DevicePreprocess(height, width, target, dtype=torch.float32, device=CPU)
        found = before(torch.from_numpy(image)[None])[0, 0].numpy()
        wanted = to_tensor(image, target)[0, 0]
        off = np.abs(found - wanted) * 255 * target.std
        assert off.max() < 1.01
        assert (off > 0.01).mean() < 0.2
        seen.add((image.ndim, width > target.width))
    assert len(seen) == 4


@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize(("source", "target"), [(580, 576), (1920, 256), (300, 300), (7, 3), (1, 1)])
def test_weights_of_a_line_sum_to_one(source: int, target: int, area: bool) -> None:
    weights = resize_weights(source, target, area=area)
    assert weights.shape == (target, source)
    assert weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(np.ones(target), abs=1e-5)


def test_an_image_of_the_nets_size_is_not_resized() -> None:
    image = RANDOM.integers(0, 256, (32, 48), np.uint8)
    before = DevicePreprocess(32, 48, SPEC, dtype=torch.float32, device=CPU)
    assert before(torch.from_numpy(image)[None])[0, 0].numpy() == pytest.approx(
        normalise(image, SPEC), abs=1e-6
    )


def switches() -> list[Any]:
    """torch's switches of TF32, new and old; None where it refuses to read one."""

    def read(look: Any) -> Any:
        try:
            return look()
        except RuntimeError:
            return None

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    new = [matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]
    return [
        *new,
        read(lambda: cudnn.allow_tf32),
        read(lambda: matmul.allow_tf32),
        read(torch.get_float32_matmul_precision),
    ]


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize("chosen", ["nothing", "old", "new"])
@pytest.mark.usefixtures("restored")
def test_float32_is_full_on_a_gpu_and_the_switches_go_back(chosen: str) -> None:
    if chosen == "old":
        torch.set_float32_matmul_precision("high")
    elif chosen == "new":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    before = switches()
    inside = []

    def fail() -> None:
        with exact_products(torch.device("cuda")):
            inside.extend(switches())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    # The compiler reads the old ones, and decides by the new ones.
    assert "tf32" not in inside
    assert inside[3:] == [False, False, "highest"]
    assert switches() == before
