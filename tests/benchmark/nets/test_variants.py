"""Subjects are the shipped engines where these fit, else the store's, else built for the occasion."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from streamseg.benchmark.nets.variants import (
    InputShape,
    VariantBuilder,
    VariantSpec,
    check_nets,
    plan,
)
from streamseg.core.errors import UsageError
from streamseg.engines.store import EngineStore, engine_name
from streamseg.export.build import build_engine
from streamseg.export.source import resolve

pytest.importorskip("torch")
SMALL = InputShape("unet", 32, 48)


@pytest.fixture
def builder(tmp_path: Path) -> VariantBuilder:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return VariantBuilder(scratch, 1, calibration=2, store=EngineStore(tmp_path / "store"))


def test_shipped_engines_are_used_for_their_own_input_shape(builder: VariantBuilder) -> None:
    shape = InputShape("improved_unet", 192, 224)
    made, absent = builder.make(shape, [VariantSpec("openvino", "fp32"), VariantSpec("openvino", "int8")])
    assert absent == {}
    assert [one.origin for one in made] == ["shipped", "shipped"]
    assert [one.key for one in made] == [
        VariantSpec("openvino", name).key(shape) for name in ("fp32", "int8")
    ]
    assert made[0].precision_found() == {"fp32": 1.0}
    assert made[1].precision_found()["int8"] > 0.9
    assert made[0].model_bytes > made[1].model_bytes > 7e6
    assert all(one.trained and one.build_s is None for one in made)


def test_missing_engines_are_built_and_impossible_ones_are_absent(builder: VariantBuilder) -> None:
    specs = [
        VariantSpec("eager", "fp32", folded=False),
        VariantSpec("openvino", "fp32"),
        VariantSpec("onnx", "bf16"),
    ]
    made, absent = builder.make(SMALL, specs)
    assert [(one.spec.backend, one.origin, one.spec.folded) for one in made] == [
        ("eager", "torch", False), ("openvino", "built", True),
    ]  # fmt: skip
    assert list(absent) == ["unet onnx bf16 32x48 b1"]
    assert "bf16" in absent["unet onnx bf16 32x48 b1"]
    tensor = np.random.default_rng(0).standard_normal((1, 1, 32, 48), np.float32)
    np.testing.assert_allclose(made[0].engine.infer(tensor), made[1].engine.infer(tensor), atol=1e-3)
    assert made[1].build_s is not None
    assert not made[1].trained
    assert Path(made[1].start_task["engine"]).is_dir()
    assert Path(made[0].start_task["checkpoint"]).is_file()


def test_an_engine_of_the_store_is_used_if_it_passed_the_gate(builder: VariantBuilder) -> None:
    spec, checkpoint = VariantSpec("openvino", "fp32"), resolve(SMALL.net, (SMALL.height, SMALL.width))
    folder = builder.scratch / "exported"
    manifest = build_engine(checkpoint, "openvino", "fp32", folder)
    for passed, origin in ((False, "built"), (True, "store")):
        judged = replace(manifest, gate={"passed": passed})
        judged = replace(judged, name=engine_name(judged))
        target = builder.store.root / judged.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
        judged.write(target)
        assert builder.one(SMALL, checkpoint, spec).origin == origin
    (target / "model.bin").write_bytes(b"altered")
    shutil.rmtree(builder.scratch / spec.key(SMALL).replace(" ", "-"))
    assert builder.one(SMALL, checkpoint, spec).origin == "built"


def test_a_batch_has_engines_of_its_own(builder: VariantBuilder) -> None:
    shape = replace(SMALL, batch=2)
    made, _ = builder.make(shape, [VariantSpec("eager", "fp32"), VariantSpec("openvino", "fp32")])
    tensor = np.random.default_rng(0).standard_normal((2, 1, 32, 48), np.float32)
    first, second = (one.engine.infer(tensor) for one in made)
    assert first.shape == second.shape == (2, 1, 32, 48)
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert all(one.key.endswith("b2") for one in made)


@pytest.mark.slow
def test_int8_is_calibrated_on_phantoms(builder: VariantBuilder) -> None:
    pytest.importorskip("nncf")
    made, absent = builder.make(SMALL, [VariantSpec("openvino", "int8")])
    assert absent == {}
    assert made[0].precision_found()["int8"] > 0.5


@pytest.mark.gpu
def test_on_a_gpu(builder: VariantBuilder) -> None:
    made, absent = builder.make(SMALL, [VariantSpec("eager-cuda", "fp16"), VariantSpec("tensorrt", "fp16")])
    assert [one.spec.backend for one in made] == ["eager-cuda", "tensorrt"], absent
    tensor = np.random.default_rng(0).standard_normal((1, 1, 32, 48), np.float32)
    np.testing.assert_allclose(made[0].engine.infer(tensor), made[1].engine.infer(tensor), atol=0.05)


def words(specs: list[VariantSpec]) -> list[str]:
    return [str(spec) for spec in specs]


def test_default_variants_are_those_that_the_machine_can_run() -> None:
    specs, absent = plan([], [], gpu=False, quick=True)
    assert words(specs) == ["eager fp32 as trained", "eager fp32", "openvino fp32", "openvino int8"]
    assert absent == {}
    full, _ = plan([], [], gpu=False, quick=False)
    assert ("onnx int8" in words(full)) == (find_spec("onnxruntime") is not None)
    assert not [spec for spec in full if spec.backend == "compiled"]


def test_a_gpu_adds_its_variants_and_their_reference() -> None:
    specs, _ = plan([], [], gpu=True, quick=True)
    assert words(specs)[:2] == ["eager fp32 as trained", "eager-cuda fp32 as trained"]
    assert {"tensorrt fp32", "tensorrt fp16", "tensorrt int8", "eager-cuda fp16"} <= set(words(specs))
    specs, _ = plan(["tensorrt"], ["fp16"], gpu=True, quick=False)
    assert words(specs) == ["eager fp32 as trained", "eager-cuda fp32 as trained", "tensorrt fp16"]


def test_a_precision_that_a_back_end_lacks_is_absent_only_if_both_were_asked_for() -> None:
    specs, absent = plan(["eager", "openvino"], ["int8"], gpu=False, quick=False)
    assert words(specs) == ["eager fp32 as trained", "openvino int8"]
    assert absent == {"eager int8": "eager computes in fp32, bf16; int8 cannot be had there"}
    with pytest.raises(UsageError, match="nothing of what was asked for can be had: eager computes in fp32"):
        plan(["eager"], ["int8"], gpu=False, quick=False)
    assert plan([], ["int8"], gpu=False, quick=True)[1] == {}
    assert plan(["eager"], [], gpu=False, quick=True)[1] == {}


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match="no back end is called 'trt'; choose one of eager, openvino, onnx"):
        plan(["trt"], [], gpu=False, quick=False)
    with pytest.raises(UsageError, match="no precision is called 'fp8'; choose one of fp32"):
        plan([], ["fp8"], gpu=False, quick=False)
    with pytest.raises(UsageError, match="no net is called 'yolo'"):
        check_nets(["yolo"])
    assert check_nets(["unet", "unet"]) == ("unet",)
    assert check_nets([])[0] == "improved_unet"
