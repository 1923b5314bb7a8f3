"""Subjects are the shipped engines where these fit, else the store's, else built for the occasion."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamseg.benchmark.nets.plan import Way
from streamseg.benchmark.nets.subjects import Workshop, build_engine, key_of
from streamseg.benchmark.subject import Point
from streamseg.engines.store import EngineStore, engine_name
from streamseg.export.source import resolve

pytest.importorskip("torch")
SMALL = Point("unet", 32, 48)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Workshop(scratch, 1, calibration=2, store=EngineStore(tmp_path / "store"))


def test_the_shipped_engines_are_taken_where_the_point_is_theirs(shop: Workshop) -> None:
    point = Point("improved_unet", 192, 224)
    made, absent = shop.make(point, [Way("openvino", "fp32"), Way("openvino", "int8")])
    assert absent == {}
    assert [one.origin for one in made] == ["shipped", "shipped"]
    assert [one.key for one in made] == [key_of(point, Way("openvino", name)) for name in ("fp32", "int8")]
    assert made[0].precision_found == {"fp32": 1.0}
    assert made[1].precision_found["int8"] > 0.9
    assert made[0].model_bytes > made[1].model_bytes > 7e6
    assert all(one.trained and one.build_s is None for one in made)


def test_what_is_not_there_is_built_and_what_cannot_be_is_absent(shop: Workshop) -> None:
    ways = [Way("eager", "fp32", folded=False), Way("openvino", "fp32"), Way("onnx", "bf16")]
    made, absent = shop.make(SMALL, ways)
    assert [(one.backend, one.origin, one.folded) for one in made] == [
        ("eager", "torch", False), ("openvino", "built", True),
    ]  # fmt: skip
    assert list(absent) == ["unet onnx bf16 32x48 b1"]
    assert "bf16" in absent["unet onnx bf16 32x48 b1"]
    tensor = np.random.default_rng(0).standard_normal((1, 1, 32, 48), np.float32)
    np.testing.assert_allclose(made[0].engine.infer(tensor), made[1].engine.infer(tensor), atol=1e-3)
    assert made[1].build_s is not None
    assert not made[1].trained
    assert Path(made[1].child["engine"]).is_dir()
    assert Path(made[0].child["checkpoint"]).is_file()


def test_an_engine_of_the_store_is_taken_where_it_passed_the_gate(shop: Workshop) -> None:
    way, checkpoint = Way("openvino", "fp32"), resolve(SMALL.net, (SMALL.height, SMALL.width))
    folder = shop.scratch / "exported"
    manifest = build_engine(checkpoint, SMALL, way, (), folder)
    for passed, origin in ((False, "built"), (True, "store")):
        judged = replace(manifest, gate={"passed": passed})
        judged = replace(judged, name=engine_name(judged))
        target = shop.store.root / judged.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
        judged.write(target)
        assert shop.one(SMALL, checkpoint, way).origin == origin
    (target / "model.bin").write_bytes(b"altered")
    shutil.rmtree(shop.scratch / key_of(SMALL, way).replace(" ", "-"))
    assert shop.one(SMALL, checkpoint, way).origin == "built"


def test_a_batch_has_engines_of_its_own(shop: Workshop) -> None:
    point = replace(SMALL, batch=2)
    made, _ = shop.make(point, [Way("eager", "fp32"), Way("openvino", "fp32")])
    tensor = np.random.default_rng(0).standard_normal((2, 1, 32, 48), np.float32)
    one, two = (subject.engine.infer(tensor) for subject in made)
    assert one.shape == two.shape == (2, 32, 48)
    np.testing.assert_allclose(one, two, atol=1e-3)
    assert all(subject.key.endswith("b2") for subject in made)


@pytest.mark.slow
def test_int8_is_calibrated_on_phantoms(shop: Workshop) -> None:
    pytest.importorskip("nncf")
    made, absent = shop.make(SMALL, [Way("openvino", "int8")])
    assert absent == {}
    assert made[0].precision_found["int8"] > 0.5


@pytest.mark.gpu
def test_on_a_gpu(shop: Workshop) -> None:
    made, absent = shop.make(SMALL, [Way("eager-cuda", "fp16"), Way("tensorrt", "fp16")])
    assert [one.backend for one in made] == ["eager-cuda", "tensorrt"], absent
    tensor = np.random.default_rng(0).standard_normal((1, 1, 32, 48), np.float32)
    np.testing.assert_allclose(made[0].engine.infer(tensor), made[1].engine.infer(tensor), atol=0.05)
