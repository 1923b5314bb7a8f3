"""TensorRT's calls: which module is found, and what an engine's description says."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends.tensorrt.runtime import PLAIN, RTX, deserialise, find_tensorrt, kind_of, shares_of
from streamseg.core.errors import EngineError, MissingExtra
from tests.backends.fake_tensorrt import FakeTensorRT, conv


def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_bindings", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)


def test_finding_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch)
    plain, rtx = FakeTensorRT(), FakeTensorRT("tensorrt_rtx", "1.5.0")
    with pytest.raises(MissingExtra, match="'tensorrt'"):
        find_tensorrt(PLAIN)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    assert find_tensorrt(RTX) is rtx
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", plain)
    assert find_tensorrt(PLAIN) is plain
    alias = FakeTensorRT()
    alias._package_name = "tensorrt_rtx"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", alias)  # as torch-tensorrt-rtx does
    assert find_tensorrt(PLAIN) is plain
    monkeypatch.delitem(sys.modules, "tensorrt_bindings")
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", None)
    with pytest.raises(MissingExtra, match="'tensorrt'"):
        find_tensorrt(PLAIN)


@pytest.mark.parametrize(
    "line", ["raise ImportError('libcuda.so.1: cannot open')", "raise OSError('no')", "import nothing_there"]
)
def test_a_tensorrt_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    with pytest.raises(EngineError, match="installed but does not load"):
        find_tensorrt(RTX)


def test_versions_tell_which_kind_built_a_plan() -> None:
    assert kind_of({"tensorrt": "10.15.1", "torch-tensorrt": "2.11.0"}) == PLAIN
    assert kind_of({"tensorrt-cu13": "11.1.0"}) == PLAIN
    assert kind_of({"tensorrt-rtx": "1.5.0.114"}) == RTX
    assert kind_of({"tensorrt-rtx-cu13": "1.5.0.114", "torch-tensorrt-rtx": "2.13.0"}) == RTX


def layer(kind: str, *words: str, **more: Any) -> dict[str, Any]:
    return {"LayerType": kind, "Inputs": [{"Format/Datatype": text} for text in words]} | more


@pytest.mark.parametrize(
    ("layers", "shares"),
    [
        # kernels of single layers
        ([conv("HALF", "Half"), conv("INT8", "Int8")], {"fp16": 0.5, "int8": 0.5}),
        ([layer("CaskConvolution", "Row major linear FP32"), conv("HALF")], {"fp32": 0.5, "fp16": 0.5}),
        ([layer("Scale", "Two wide channel vectorized row major FP16 format")], {"fp16": 1.0}),
        # kernels of many layers, compiled by Myelin
        ([layer("kgen", "Half"), layer("kgen", "Float"), layer("kgen", "BFloat16")], None),
        ([layer("kgen", "Half", "Float")], {"fp32": 1.0}),
        ([layer("gemm", "Int8", "Half", Weights={"Type": "Int8", "Count": 9})], {"int8": 1.0}),
        ([layer("gemm", "Half", Weights={"Type": "Int8", "Count": 9})], {"fp16": 1.0}),
        ([layer("kgen", "FP8"), layer("kgen", "Int4")], {"other": 1.0}),
        ([layer("kgen", "Bool"), layer("kgen", "Half", "Int64")], {"fp16": 0.5, "other": 0.5}),
        ([{"LayerType": "kgen", "Inputs": [{"Format": "Row major", "DataType": "Half"}]}], {"fp16": 1.0}),
        # what moves numbers does not compute
        ([conv("HALF"), layer("Reformat", "Row major linear FP32"), layer("NoOp", "Float")], {"fp16": 1.0}),
        # what states no type
        (["conv1 + relu1", "conv2"], {"other": 1.0}),
        ([], {"other": 1.0}),
        ([layer("Reformat", "Half")], {"other": 1.0}),
        ([{}], {"other": 1.0}),
        ([layer("kgen", "N/A due to dynamic shapes")], {"other": 1.0}),
        ([{"LayerType": "kgen", "Inputs": "Half"}], {"other": 1.0}),
        ([{"LayerType": 3, "Inputs": [3, None, []], "Weights": "Half"}], {"other": 1.0}),
        ("layers", {"other": 1.0}),
    ],
)
def test_shares_of_types(layers: object, shares: dict[str, float] | None) -> None:
    found = shares_of(json.dumps({"Layers": layers, "Bindings": ["x"]}))
    assert sum(found.values()) == pytest.approx(1)
    assert found == (shares or dict.fromkeys(("fp32", "bf16", "fp16"), pytest.approx(1 / 3)))


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "null", "3", '{"Layers": 3}', '{"layers": []}'])
def test_useless_information_gives_other(text: str) -> None:
    assert shares_of(text) == {"other": 1.0}


def test_garbage_is_not_a_plan() -> None:
    for garbage in (b"", b"garbage", b"\0" * 1000, b"{}\n"):
        with pytest.raises(EngineError, match="cannot load"):
            deserialise(FakeTensorRT(), garbage, "e")
