import pytest
import torch

from streamseg.core.errors import UsageError
from streamseg.training.devices import flushed_denormals, make_fabric


def test_one_process_on_the_processor():
    fabric = make_fabric("cpu")
    assert (fabric.device.type, fabric.world_size, fabric.global_rank) == ("cpu", 1, 0)


def test_bf16_is_used_where_asked_for():
    fabric = make_fabric("cpu", "bf16-mixed")
    with fabric.autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16


def test_deterministic_algorithms_are_asked_for():
    before = torch.are_deterministic_algorithms_enabled()
    try:
        make_fabric("cpu", deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no GPU that torch can use"):
        make_fabric("gpu")
    with pytest.raises(UsageError, match="no device is called 'tpu'"):
        make_fabric("tpu")


def test_denormal_numbers_are_flushed_within_the_block_only():
    tiny = torch.full((4,), 1e-30) * torch.tensor(1e-10)
    assert (tiny != 0).all()
    with flushed_denormals():
        make_fabric("cpu")
        assert (torch.full((4,), 1e-30) * torch.tensor(1e-10) == 0).all()
    assert (torch.full((4,), 1e-30) * torch.tensor(1e-10) != 0).all()
