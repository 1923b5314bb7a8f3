"""The GPU's runner, on the processor: computes what the separate steps do, and keeps its buffers its own."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="the GPU's runner needs torch (extra 'tensorrt')")

from streamseg.backends.cuda.runner import FRAME_SIZES, CudaRunner, _DeviceContext, _InputGraph, translated  # noqa: E402
from streamseg.core.errors import EngineError  # noqa: E402
from streamseg.core.types import InputSpec  # noqa: E402
from streamseg.segmentation.preprocess import letterboxed, to_tensor  # noqa: E402
from tests.backends.small_engines import info_of  # noqa: E402

SPEC = InputSpec(32, 48, mean=0.3, std=0.2, threshold=0.5)
RANDOM = np.random.default_rng(0)
CPU = torch.device("cpu")


def smooth(*shape: int) -> npt.NDArray[np.uint8]:
    """Noise with some structure, uint8."""
    noise = RANDOM.integers(0, 256, shape, np.uint8)
    return np.asarray(cv2.blur(noise, (3, 3)), np.uint8)


def net(x: Any) -> Any:
    """A stand-in for a net: looks at neighbours, keeps the shape."""
    return torch.sigmoid(torch.nn.functional.avg_pool2d(x, 3, 1, 1) * 2)


def runner(spec: InputSpec = SPEC, **options: Any) -> CudaRunner:
    dtype = options.pop("dtype", torch.float32)
    return CudaRunner(net, info_of(spec, **options), dtype=dtype)


def test_every_entrance_leads_to_the_same_probability() -> None:
    run = runner()
    for image in (smooth(70, 90), smooth(70, 90, 3), smooth(20, 21)):
        planes = net(torch.from_numpy(to_tensor(image, SPEC)))[0].numpy()
        assert np.array_equal(run.infer(to_tensor(image, SPEC)), planes)
        assert run.infer_grey(letterboxed(image, SPEC)) == pytest.approx(planes, abs=1e-5)
        (wanted,) = planes
        found = run.probability(image)
        assert found == pytest.approx(wanted, abs=0.02)  # a grey level is 1 / 51 of the net's unit here
        assert np.array_equal(run.mask(image), found >= 0.5)
        sure = np.abs(wanted - 0.5) > 0.01
        assert np.array_equal(run.mask(image)[sure], wanted[sure] >= 0.5)


def test_half_precision_gives_float32() -> None:
    run = runner(dtype=torch.bfloat16)
    tensor = to_tensor(smooth(40, 60), SPEC)
    found = run.infer(tensor)
    assert found.dtype == np.float32
    assert found == pytest.approx(net(torch.from_numpy(tensor))[0].numpy(), abs=0.02)


def test_results_are_the_callers_own() -> None:
    run = runner()
    images = [smooth(40, 60) for _ in range(3)]
    first = [run.probability(image) for image in images]
    masks = [run.mask(image) for image in images]
    assert all(np.array_equal(a, run.probability(b)) for a, b in zip(first, images, strict=True))
    assert all(np.array_equal(a, run.mask(b)) for a, b in zip(masks, images, strict=True))
    assert not np.shares_memory(first[0], first[1])
    first[0][:] = -1
    assert run.probability(images[0]).min() >= 0


def test_a_net_may_write_into_its_own_buffer() -> None:
    buffer = torch.empty(1, 1, 32, 48)

    def into_buffer(x: Any) -> Any:
        return buffer.copy_(net(x))

    run = CudaRunner(into_buffer, info_of(SPEC), dtype=torch.float32)
    a, b = smooth(32, 48), smooth(32, 48)
    first = run.infer_grey(a)
    second = run.infer_grey(b)
    assert np.array_equal(first, runner().infer_grey(a))
    assert np.array_equal(second, runner().infer_grey(b))


def test_frames_change_size_and_few_sizes_are_cached() -> None:
    run = runner()
    sizes = [(40 + n, 60) for n in range(2 * FRAME_SIZES)]
    images = [smooth(*size) for size in sizes]
    first = [run.probability(image) for image in images]
    assert len(run._framed) == FRAME_SIZES
    for image, wanted in zip(images, first, strict=True):
        assert np.array_equal(run.probability(image), wanted)


def test_a_batch_equals_its_frames() -> None:
    run = runner(batch=3)
    images = np.stack([smooth(40, 60, 3) for _ in range(3)])
    one = runner()
    assert np.array_equal(run.mask(images), [one.mask(image) for image in images])
    tensors = np.concatenate([to_tensor(image, SPEC) for image in images])
    assert run.infer(tensors) == pytest.approx(np.stack([one.infer(t[None]) for t in tensors]), abs=1e-6)
    greys = np.stack([letterboxed(image, SPEC) for image in images])
    assert run.infer_grey(greys) == pytest.approx(run.infer(tensors), abs=1e-5)


def test_a_net_with_two_planes_gives_both_and_the_mask_is_the_nerves() -> None:
    spec = replace(SPEC, structures=("nerve", "vessel"))

    def both(x: Any) -> Any:
        return torch.cat((net(x), 1 - net(x)), dim=1)

    run = CudaRunner(both, info_of(spec), dtype=torch.float32)
    image = smooth(40, 60)
    found = run.infer(to_tensor(image, spec))
    assert found.shape == (2, 32, 48)
    assert found[1] == pytest.approx(1 - found[0], abs=1e-6)
    assert np.array_equal(found[:1], runner().infer(to_tensor(image, spec)))
    assert np.array_equal(run.mask(image), runner().mask(image))
    two = CudaRunner(both, info_of(spec, batch=2), dtype=torch.float32)
    assert two.infer_grey(np.stack([letterboxed(image, spec)] * 2)).shape == (2, 2, 32, 48)
    with pytest.raises(EngineError, match=r"gave a map \(1, 1, 32, 48\), its specification says \(1, 2, "):
        runner(spec).infer(to_tensor(image, spec))


def test_input_that_is_not_contiguous() -> None:
    run = runner()
    image = smooth(80, 120)[::2, ::2]
    assert np.array_equal(run.mask(image), run.mask(image.copy()))


@pytest.mark.parametrize(
    ("method", "array"),
    [
        ("infer", np.zeros((1, 1, 32, 40), np.float32)),
        ("infer", np.zeros((1, 1, 32, 48), np.float64)),
        ("infer_grey", np.zeros((32, 40), np.uint8)),
        ("infer_grey", np.zeros((1, 32, 48), np.uint8)),
        ("mask", np.zeros((32, 48), np.float32)),
        ("mask", np.zeros((32, 48, 4), np.uint8)),
        ("mask", np.zeros((0, 48), np.uint8)),
        ("probability", np.zeros(48, np.uint8)),
    ],
)
def test_input_of_another_kind_is_refused(method: str, array: npt.NDArray[Any]) -> None:
    with pytest.raises(EngineError, match="received"):
        getattr(runner(name="some-engine"), method)(array)


def test_a_batch_of_another_size_is_refused() -> None:
    with pytest.raises(EngineError, match="2 stacked frames"):
        runner(batch=2).mask(np.zeros((3, 40, 60), np.uint8))


def test_a_net_of_another_size_is_refused() -> None:
    run = CudaRunner(lambda x: x[..., ::2, ::2], info_of(SPEC, name="halved"), dtype=torch.float32)
    with pytest.raises(EngineError, match=r"halved gave a map \(1, 1, 16, 24\)"):
        run.infer_grey(smooth(32, 48))


def test_a_closed_engine_says_so() -> None:
    run = runner()
    run.mask(smooth(40, 60))
    run.close()
    run.close()
    for call in (run.mask, run.infer_grey):
        with pytest.raises(EngineError, match="is closed"):
            call(smooth(32, 48))


def test_callers_wait_for_one_another() -> None:
    run = runner()
    images = [smooth(40, 60) for _ in range(4)]
    wanted = [run.probability(image) for image in images]
    wrong = []

    def work(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(run.probability(images[index]), wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_so() -> None:
    with pytest.raises(EngineError, match="NVIDIA GPU"):
        CudaRunner(net, info_of(SPEC, name="some-engine", device="cuda"))


@pytest.mark.parametrize("device", ["tpu9", "meta"])
def test_another_device_is_refused(device: str) -> None:
    with pytest.raises(EngineError, match=device):
        CudaRunner(net, info_of(SPEC, device=device))


def test_torchs_errors_are_one_line_of_ours() -> None:
    with pytest.raises(EngineError, match="too little free GPU memory") as caught, translated("some-engine"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the manual")
    assert "\n" not in str(caught.value)
    with (
        pytest.raises(EngineError, match=r"some-engine failed on the device: CUDA error: bad"),
        translated("some-engine"),
    ):
        raise RuntimeError("CUDA error: bad\nCompile with TORCH_USE_CUDA_DSA")


class Recorder:
    """Stands in for torch.cuda's streams and graphs, and remembers what is asked of them, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.device = CPU
        zeros = torch.zeros

        def unpinned(*shape: Any, pin_memory: bool = False, **options: Any) -> Any:
            self.calls += ["pinned"] * pin_memory
            return zeros(*shape, **options)

        monkeypatch.setattr(torch, "zeros", unpinned)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: self)
        seen = self

        def captured(path: _InputGraph, stream: Any, pool: Any) -> Any:
            assert stream is seen
            seen.calls.append(f"capture into {pool}")
            again = partial(seen.replay, path)
            return SimpleNamespace(replay=again, reset=lambda: seen.calls.append("reset"))

        monkeypatch.setattr(_InputGraph, "_captured", captured)

    def wait_stream(self, _: Any) -> None:
        self.calls.append("wait")

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def replay(self, path: _InputGraph) -> None:
        self.calls.append("replay")
        path._enqueue()


def test_a_frame_is_one_replay_and_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runner()
    seen = Recorder(monkeypatch)
    run._place = _DeviceContext(CPU, seen, "pool")  # type: ignore[arg-type]
    image = smooth(40, 60)
    first = run.mask(image)
    assert seen.calls[:2] == ["pinned", "pinned"]
    assert seen.calls[2:] == ["wait", "synchronize", "capture into pool", "replay", "synchronize"]
    seen.calls.clear()
    assert np.array_equal(run.mask(image), first)
    assert seen.calls == ["replay", "synchronize"]
    for rows in range(50, 50 + FRAME_SIZES):
        run.mask(smooth(rows, 60))
    assert seen.calls.count("reset") == 1
    run.close()
    assert seen.calls.count("reset") == 1 + FRAME_SIZES


def test_without_graphs_the_kernels_are_enqueued_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runner()
    seen = Recorder(monkeypatch)
    run._place = _DeviceContext(CPU, seen)  # type: ignore[arg-type]
    run.mask(smooth(40, 60))
    assert not [call for call in seen.calls if call in ("replay", "capture into None")]
    assert seen.calls[-1] == "synchronize"
