"""MONAI's nets beside ours, small: real, and in both runtimes."""

import sys

import numpy as np
import pytest

from streamseg.benchmark.peers.nets import OPENVINO, OURS, TORCH, nets
from streamseg.benchmark.peers.peer import Peer, prepare
from streamseg.export.source import resolve

pytest.importorskip("torch")

SIZE = (64, 80)
Found = tuple[dict[str, Peer], dict[str, str]]


def made() -> Found:
    tensors = [np.random.default_rng(k).standard_normal((1, 1, *SIZE)).astype(np.float32) for k in range(2)]
    absent: dict[str, str] = {}
    peers = prepare("net", nets(resolve("improved_unet", SIZE), tensors, 1), absent, lambda _: None)
    return {peer.name: peer for peer in peers}, absent


def test_each_net_in_each_runtime() -> None:
    pytest.importorskip("monai")
    peers, absent = made()
    assert absent == {}
    names = (OURS, "MONAI BasicUNet", "MONAI DynUNet")
    assert list(peers) == [f"{name}, {runtime}" for name in names for runtime in (TORCH, OPENVINO)]
    for name, peer in peers.items():
        assert peer.call() == 1
        assert peer.precision == "fp32"
        assert peer.against == f"{OURS}, {name.rpartition(', ')[2]}"
        assert peer.ours == name.startswith(OURS)
        assert peer.facts["difference"] < 1e-3
    ours, basic, dyn = (peers[f"{name}, {TORCH}"].facts for name in names)
    assert ours["parameters"] == 7_846_081
    assert basic["parameters"] == 1_978_433
    assert dyn["parameters"] == 7_761_985
    assert (ours["normalisations"], basic["normalisations"], dyn["normalisations"]) == (0, 18, 18)
    assert basic["gflop"] < dyn["gflop"] < ours["gflop"]
    assert "speed only" in peers[f"MONAI BasicUNet, {TORCH}"].remark
    assert peers[f"MONAI BasicUNet, {TORCH}"].version.startswith("monai ")


def test_without_monai_ours_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)
    peers, absent = made()
    assert list(peers) == [f"{OURS}, {TORCH}", f"{OURS}, {OPENVINO}"]
    assert len(absent) == 4
    assert all("pip install 'streamseg[bench]'" in reason for reason in absent.values())


def test_without_torch_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    peers, absent = made()
    assert peers == {}
    assert len(absent) == 6
    assert all("pip install 'streamseg[bench]'" in reason for reason in absent.values())
