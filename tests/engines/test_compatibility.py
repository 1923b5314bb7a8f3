"""Which machines an engine fits, in human-readable words."""

from dataclasses import replace

import pytest

from streamseg.core.hardware import Machine, this_machine, versions_of
from streamseg.engines.compatibility import command_for, export_command, incompatibilities, on_gpu
from streamseg.engines.manifest import Manifest
from tests.backends.small_engines import DESCRIBED

HERE = Machine("one processor", ("avx2", "avx512f"))
GPU = Machine("one processor", ("avx2",), "NVIDIA H200", "9.0", "580.95.05")
PROCESSOR_ENGINE = replace(
    DESCRIBED,
    machine=HERE,
)
PLAN = replace(
    PROCESSOR_ENGINE,
    backend="tensorrt",
    machine=GPU,
    versions={"torch": "2.11.0", "torch-tensorrt": "2.11.0", "tensorrt": "10.15", "tensorrt-cu13": "10.15"},
)
INSTALLED = {"openvino": "2026.4.1", "tensorrt": "10.15", "tensorrt-cu13": "10.15"}


def test_an_engine_fits_the_machine_that_it_was_built_on() -> None:
    assert incompatibilities(PROCESSOR_ENGINE, HERE, INSTALLED) == []
    assert incompatibilities(PLAN, GPU, INSTALLED) == []


def test_machine_and_versions_are_those_that_are_there() -> None:
    engine = replace(PROCESSOR_ENGINE, machine=this_machine(), versions=versions_of(["openvino"]))
    assert incompatibilities(engine) == []
    assert incompatibilities(replace(PLAN, machine=GPU, versions={"tensorrt": "0.1"}))


def test_portable_engines_fit_everywhere() -> None:
    assert incompatibilities(replace(PROCESSOR_ENGINE, portable=True, machine=None), GPU, {}) == []


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (("avx2",), "built for a processor with avx512f, which this one lacks"),
        (
            ("avx2", "avx512f", "amx_int8"),
            "built for a processor without amx_int8, which this one has",
        ),
    ],
)
def test_another_processor_is_named_by_its_features(features: tuple[str, ...], message: str) -> None:
    assert incompatibilities(PROCESSOR_ENGINE, replace(HERE, features=features), INSTALLED) == [message]


def test_another_processor_with_the_same_features_is_accepted() -> None:
    assert incompatibilities(PROCESSOR_ENGINE, replace(HERE, processor="another", gpu="any"), INSTALLED) == []


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (
            replace(GPU, compute_capability="8.9"),
            "built for compute capability 9.0, this machine has 8.9",
        ),
        (HERE, "built for compute capability 9.0, this machine has no NVIDIA GPU"),
        (replace(GPU, driver="535.2"), "built under driver 580.95.05, this machine has the older 535.2"),
    ],
)
def test_another_gpu_or_an_older_driver_does_not_fit(machine: Machine, message: str) -> None:
    assert incompatibilities(PLAN, machine, INSTALLED) == [message]


@pytest.mark.parametrize("driver", ["580.1", "600.1", "", "unknown"])
def test_a_driver_not_known_to_be_older_is_accepted(driver: str) -> None:
    assert incompatibilities(PLAN, replace(GPU, driver=driver), INSTALLED) == []


def test_other_versions_are_named_both() -> None:
    assert incompatibilities(PROCESSOR_ENGINE, HERE, {"openvino": "2025.1"}) == [
        "built with openvino 2026.4.1, this machine has 2025.1"
    ]
    assert incompatibilities(PLAN, GPU, INSTALLED | {"tensorrt": "11.1"}) == [
        "built with tensorrt 10.15, this machine has 11.1"
    ]


def test_a_version_with_its_build_number_is_the_same_release() -> None:
    engine = replace(PROCESSOR_ENGINE, versions={"openvino": "2026.4.1-22240-abc"})
    assert incompatibilities(engine, HERE, INSTALLED) == []


def test_a_build_of_torch_for_another_cuda_is_another_version() -> None:
    engine = replace(PLAN, backend="compiled", versions={"torch": "2.11.0+cu130"})
    assert incompatibilities(engine, GPU, {"torch": "2.11.0+cpu"})


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (PROCESSOR_ENGINE, "it runs on openvino, which is not installed (pip install openvino)"),
        (
            replace(PROCESSOR_ENGINE, backend="onnx", versions={"onnxruntime": "1.31"}),
            "it runs on onnxruntime, which is not installed (pip install 'streamseg[export]')",
        ),
        (
            replace(PLAN, versions={"tensorrt": "10.15"}),
            "it runs on tensorrt, which is not installed (pip install 'streamseg[tensorrt]')",
        ),
    ],
)
def test_a_missing_package_is_named_with_its_extra(engine: Manifest, message: str) -> None:
    assert incompatibilities(engine, engine.machine, {}) == [message]


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (replace(PROCESSOR_ENGINE, machine=None), "does not say what machine"),
        (replace(PROCESSOR_ENGINE, versions={}), "does not say which openvino"),
        (replace(PLAN, versions={"torch": "2.11"}), "does not say which version of tensorrt"),
    ],
)
def test_an_incomplete_manifest_fits_nowhere(engine: Manifest, message: str) -> None:
    (found,) = incompatibilities(engine, engine.machine or HERE, INSTALLED)
    assert message in found


def test_torch_is_not_needed_to_run_a_plan() -> None:
    assert "torch" not in INSTALLED
    assert incompatibilities(PLAN, GPU, INSTALLED) == []


def test_compiled_engines_run_where_they_were_compiled_for() -> None:
    versions = {"torch": "2.13.0+cpu"}
    here = replace(PROCESSOR_ENGINE, backend="compiled", versions=versions)
    assert not on_gpu(here)
    assert incompatibilities(here, HERE, versions) == []
    assert incompatibilities(here, replace(HERE, features=()), versions)
    assert on_gpu(replace(here, machine=GPU))
    with_triton = replace(here, versions=versions | {"triton": "3.7"})
    assert incompatibilities(with_triton, HERE, versions)
    assert incompatibilities(with_triton, HERE, versions | {"triton": "3.7"}) == []


def test_the_command_builds_the_same_again() -> None:
    assert export_command(replace(PROCESSOR_ENGINE, source="unet")) == (
        "streamseg export unet --backend openvino --precision int8 --size 32x48"
    )
    other = replace(
        PROCESSOR_ENGINE, source="/my runs/a", batch=8, calibration={"folder": "/data", "frames": 3}
    )
    assert export_command(other).split(" ", 2)[2].startswith("'/my runs/a' --backend")
    assert command_for(other)[-4:] == ["--batch", "8", "--data", "/data"]
    mirrored = replace(PROCESSOR_ENGINE, spec=replace(PROCESSOR_ENGINE.spec, mirrored=True))
    assert command_for(mirrored)[-1] == "--mirror"
