"""On an NVIDIA GPU: every engine agrees with eager FP32, also over time, and in the requested precision.

Run with ``pytest -m gpu tests/gpu``; ``make gpu`` measures the same, and more.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch built for CUDA")

from benchmarks.gpu import checks  # noqa: E402
from benchmarks.gpu.variants import Absent, Point, Variant, make, phantoms  # noqa: E402
from streamseg.backends.cuda.runner import CudaRunner  # noqa: E402
from streamseg.core.errors import EngineError  # noqa: E402
from streamseg.export.source import resolve  # noqa: E402
from streamseg.nets.inference import inference_net  # noqa: E402
from streamseg.segmentation.preprocess import to_tensor  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU"),
]
SIZE = (192, 256)
ENGINES = ("graph-fp16", "compiled-fp32", "compiled-fp16", "compiled-bf16", "tensorrt-fp16", "tensorrt-int8")
TRAINED = "improved_unet"


def point(net: str = TRAINED, batch: int = 1) -> Point:
    return Point(resolve(net, SIZE), batch, "cuda")


def variant(name: str, where: Point) -> Iterator[Variant]:
    found = next(iter(make(where, [name])))
    if isinstance(found, Absent):
        pytest.skip(f"{name} is absent: {found.reason}")
    yield found
    found.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Variant]:
    """Each kind of engine of the shipped weights; skipped where it is absent."""
    yield from variant(request.param, point())


def test_masks_are_those_of_eager_fp32(engine: Variant) -> None:
    reference = next(iter(make(point(), ["eager-fp32"])))
    assert isinstance(reference, Variant)
    dices, worst = [], 0.0
    for frame in phantoms(24):
        wanted = reference.probability(frame)
        found = engine.probability(frame)
        worst = max(worst, float(np.abs(found - wanted).max()))
        dices.append(checks.dice(engine.mask(frame), reference.mask(frame)))
    assert np.mean(dices) >= checks.MIN_DICE[engine.precision]
    assert worst < {"fp32": 0.02, "fp16": 0.2, "bf16": 0.6, "int8": 1.0}[engine.precision]


def test_engines_compute_in_what_was_asked_for(engine: Variant) -> None:
    least = {"int8": 0.25}.get(engine.precision, 0.5)
    assert engine.found.get(engine.precision, 0) >= least
    assert checks.kernels_of(engine.net_call, "cuda")


@pytest.mark.parametrize("net", ["unet", "segnet"])
@pytest.mark.parametrize("name", ["graph-fp16", "compiled-fp16", "tensorrt-fp16"])
def test_the_other_nets_agree_as_well(net: str, name: str) -> None:
    row = checks.check_variants(point(net), [name], frames=4)[name]
    if "absent" in row:
        pytest.skip(f"{name} is absent: {row['absent']}")
    assert row["largest_difference"] < 0.1


@pytest.mark.parametrize("name", ["graph-fp16", "compiled-fp16", "tensorrt-fp16"])
def test_a_graph_follows_a_thousand_frames(name: str) -> None:
    found = checks.check_graph(point(), name, frames=1000)
    if "absent" in found:
        pytest.skip(f"{name} is absent: {found['absent']}")
    assert (found["stale"], found["beyond"], found["masks_unlike_probability"]) == (0, 0, 0)


@pytest.mark.parametrize("name", ["compiled-fp16", "tensorrt-fp16"])
def test_twenty_thousand_frames_take_no_memory(name: str) -> None:
    found = checks.check_leak(point(), name, frames=20_000, seconds=250)
    if "absent" in found:
        pytest.skip(f"{name} is absent: {found['absent']}")
    assert found["frames"] == 20_000
    assert found["growth"]["device_bytes"] <= 0
    assert found["growth"]["process_bytes"] <= 2**24


def runner(**options: Any) -> CudaRunner:
    """The plain net in float32, so that only the path around it can differ."""
    checkpoint = resolve(TRAINED, SIZE)
    net = inference_net(checkpoint).cuda()
    return CudaRunner(net, checkpoint.info("net", "graph", device="cuda"), dtype=torch.float32, **options)


def test_graph_no_graph_and_processor_agree() -> None:
    frames = [*phantoms(3), np.stack([phantoms(1)[0]] * 3, axis=2), phantoms(1)[0][:300, :311]]
    checkpoint = resolve(TRAINED, SIZE)
    processor = CudaRunner(inference_net(checkpoint), checkpoint.info("net", "graph"), dtype=torch.float32)
    graphed, plain = runner(), runner(graphs=False)
    for frame in frames:
        wanted = processor.probability(frame)
        assert graphed.probability(frame) == pytest.approx(wanted, abs=0.02)
        assert plain.probability(frame) == pytest.approx(wanted, abs=0.02)
        assert np.array_equal(graphed.mask(frame), graphed.probability(frame) >= checkpoint.spec.threshold)
    tensor = to_tensor(frames[0], checkpoint.spec)
    assert graphed.infer(tensor) == pytest.approx(processor.infer(tensor), abs=1e-3)


def test_many_sizes_leave_no_memory_behind() -> None:
    run = runner()
    frame = phantoms(1)[0]
    before = 0
    for number in range(30):
        run.mask(frame[: 300 + 2 * number])
        if number == 9:
            before = torch.cuda.memory_reserved()
    assert torch.cuda.memory_reserved() <= before + 2**26
    run.close()


def test_no_memory_left_is_one_line() -> None:
    info = resolve(TRAINED, SIZE).info("huge", "graph", device="cuda")
    run = CudaRunner(lambda x: x.new_empty(2**50), info)
    with pytest.raises(EngineError, match="huge found too little free GPU memory") as caught:
        run.mask(phantoms(1)[0])
    assert "\n" not in str(caught.value)
