import pytest

from streamseg.benchmark.limits import (
    Kernel,
    gpu_kernels,
    gpu_synchronize,
    limits,
    processor_kernels,
)
from streamseg.benchmark.measure import Timing, interleave

MS = 1_000_000


def timing(milliseconds: float) -> Timing:
    return Timing(((round(milliseconds * MS),) * 3,))


def test_the_fastest_kernel_of_a_kind_is_its_limit() -> None:
    kernels = [
        Kernel("a", "fp32", 4e9, print),
        Kernel("b", "fp32", 9e9, print),
        Kernel("c", "copy", 1e9, print),
        Kernel("not timed", "int8", 1e9, print),
    ]
    found = limits(kernels, {"a": timing(10), "b": timing(30), "c": timing(100), "an engine": timing(1)})
    assert set(found) == {"fp32", "copy"}
    assert (found["fp32"].kernel, found["fp32"].rate) == ("a", pytest.approx(400e9))
    assert found["copy"].to_json() == {"giga_per_s": 10.0, "kernel": "c", "kernels": {"c": 10.0}}
    assert found["fp32"].to_json()["kernels"] == {"a": 400.0, "b": 300.0}


def test_the_processors_kernels_run_and_their_work_is_known() -> None:
    kernels = processor_kernels(1, shrink=16)
    assert {kernel.kind for kernel in kernels} == {"fp32", "int8", "copy"}
    found = limits(kernels, interleave({k.name: k.call for k in kernels}, rounds=1, per_round=2))
    assert all(limit.rate > 0 for limit in found.values())
    by_name = {kernel.name: kernel.work for kernel in kernels}
    assert by_name["torch product 128"] == 2 * 128**3
    assert by_name["OpenVINO int8 4 x conv3-16"] == 4 * 2 * 9 * 16 * 16 * 48 * 64


def test_the_int8_kernel_computes_in_int8() -> None:
    """Else the limit would be one of another kind of arithmetic."""
    import openvino as ov

    from streamseg.benchmark import limits as module

    models = []

    def keep(model: ov.Model, threads: int) -> None:
        models.append(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_openvino_call", keep)
        for kind in ("int8", "fp32"):
            module._chain(kind, 1, 32, 3, 2)
    for model, expected in zip(models, ({"u8", "i8"}, {"f32"}), strict=True):
        compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        layers = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        kinds = {
            info["runtimePrecision"].astype(str)
            for info in layers
            if info["layerType"].astype(str) == "Convolution"
        }
        assert kinds
        assert kinds <= expected


def test_a_gpus_kernels_run_on_a_processor_too() -> None:
    kernels = gpu_kernels(("fp32", "bf16", "copy"), device="cpu", side=32, copy_bytes=2**20)
    wait = gpu_synchronize("cpu")
    found = limits(kernels, interleave({k.name: k.call for k in kernels}, rounds=1, synchronize=wait))
    assert set(found) == {"fp32", "bf16", "copy"}


@pytest.mark.gpu
def test_a_gpus_limits_make_sense() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    kernels = gpu_kernels()
    found = limits(
        kernels,
        interleave({k.name: k.call for k in kernels}, rounds=3, per_round=5, synchronize=gpu_synchronize()),
    )
    assert found["fp16"].rate > found["fp32"].rate > 1e12
    assert found["copy"].rate > 1e11
