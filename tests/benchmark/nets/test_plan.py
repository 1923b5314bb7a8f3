"""Which ways to run a net are measured, by themselves and as asked for."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from streamseg.benchmark.nets.plan import Way, check_nets, plan
from streamseg.core.errors import UsageError


def words(ways: list[Way]) -> list[str]:
    return [str(way) for way in ways]


def test_by_themselves_they_are_what_the_machine_has() -> None:
    ways, absent = plan([], [], gpu=False, quick=True)
    assert words(ways) == ["eager fp32 as trained", "eager fp32", "openvino fp32", "openvino int8"]
    assert absent == {}
    full, _ = plan([], [], gpu=False, quick=False)
    assert ("onnx int8" in words(full)) == (find_spec("onnxruntime") is not None)
    assert not [way for way in full if way.backend == "compiled"]


def test_a_gpu_adds_its_own_and_what_they_are_compared_with() -> None:
    ways, _ = plan([], [], gpu=True, quick=True)
    assert words(ways)[:2] == ["eager fp32 as trained", "eager-cuda fp32 as trained"]
    assert {"tensorrt fp32", "tensorrt fp16", "tensorrt int8", "eager-cuda fp16"} <= set(words(ways))
    ways, _ = plan(["tensorrt"], ["fp16"], gpu=True, quick=False)
    assert words(ways) == ["eager fp32 as trained", "eager-cuda fp32 as trained", "tensorrt fp16"]


def test_what_a_back_end_does_not_offer_is_absent_only_where_both_were_asked_for() -> None:
    ways, absent = plan(["eager", "openvino"], ["int8"], gpu=False, quick=False)
    assert words(ways) == ["eager fp32 as trained", "openvino int8"]
    assert absent == {"eager int8": "eager computes in fp32, bf16; int8 is not to be had there"}
    with pytest.raises(
        UsageError, match="nothing of what was asked for is to be had: eager computes in fp32"
    ):
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
