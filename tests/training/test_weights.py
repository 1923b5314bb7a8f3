import numpy as np
import pytest
import torch

from streamseg.core.errors import EngineError, UsageError
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.nets import build_net
from streamseg.training.weights import running_average, take_weights, write_weights
from tests.training.runs import CONFIG


def test_the_nerve_plane_is_kept_and_can_be_taken_up_again(tmp_path):
    net = build_net("improved_unet", outputs=2)
    write_weights(tmp_path / "w.safetensors", net, CONFIG)
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert checkpoint.weights["head.weight"].shape == (1, 32, 1, 1)
    build_net("improved_unet").load_state_dict(
        {name: torch.from_numpy(array) for name, array in checkpoint.weights.items()}, strict=False
    )
    other = build_net("improved_unet", outputs=2)
    vessel = other.state_dict()["head.weight"][1].clone()
    take_weights(other, checkpoint.weights)
    state = other.state_dict()
    assert all(np.array_equal(state[k].numpy()[: len(a)], a) for k, a in checkpoint.weights.items())
    assert torch.equal(state["head.weight"][1], vessel)


def test_weights_of_another_net_are_refused():
    net = build_net("improved_unet")
    with pytest.raises(UsageError, match="do not fit the net: nothing"):
        take_weights(net, {"nothing": np.zeros(3)})


def test_weights_that_are_not_finite_leave_the_file_as_it_was(tmp_path):
    net = build_net("improved_unet")
    write_weights(tmp_path / "w.safetensors", net, CONFIG)
    before = (tmp_path / "w.safetensors").read_bytes()
    with torch.no_grad():
        net.head.bias.fill_(float("inf"))
    with pytest.raises(EngineError, match="not finite"):
        write_weights(tmp_path / "w.safetensors", net, CONFIG)
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_the_running_average_forgets_the_start_and_then_keeps_its_decay():
    old, new, number = [torch.zeros(3), torch.tensor(0)], [torch.ones(3), torch.tensor(7)], 0
    running_average(0.99)(old, new, number)
    assert old[0][0].item() == pytest.approx(0.9)
    assert old[1].item() == 7
    old[0].zero_()
    running_average(0.99)(old, new, 10_000)
    assert old[0][0].item() == pytest.approx(0.01, abs=1e-6)
