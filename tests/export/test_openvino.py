import numpy as np
import openvino as ov
import pytest
import torch

from streamseg.errors import EngineError
from streamseg.export.openvino import build_model
from streamseg.nets import build_net, fold
from streamseg.types import InputSpec

SPEC = InputSpec(48, 64, mean=0.25, std=0.25, threshold=0.5)


def folded_weights(name="improved_unet"):
    torch.manual_seed(1)
    return {k: v.numpy() for k, v in fold(build_net(name)).state_dict().items()}


@pytest.mark.parametrize("name", ["unet", "improved_unet"])
def test_the_model_agrees_with_torch(name):
    torch.manual_seed(1)
    net = build_net(name).eval()
    model = build_model({k: v.numpy() for k, v in fold(net).state_dict().items()}, SPEC)
    engine = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = np.random.default_rng(0).normal(size=(1, 1, 48, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = torch.sigmoid(net(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(engine(x)[0], expected, atol=2e-6)


def test_a_size_that_is_no_multiple_names_one_that_is():
    with pytest.raises(EngineError, match="use 64x64"):
        build_model(folded_weights(), InputSpec(50, 60, mean=0.25, std=0.25, threshold=0.5))


def test_missing_weights_are_named():
    weights = folded_weights()
    del weights["bottom.1.conv.bias"]
    with pytest.raises(EngineError, match=r"lack 'bottom\.1\.conv\.bias'"):
        build_model(weights, SPEC)


def test_weights_of_another_net_are_refused_in_one_line():
    weights = folded_weights()
    weights["decoder.0.0.conv.weight"] = weights["decoder.0.0.conv.weight"][:, :100]
    with pytest.raises(EngineError, match="do not form a folded U-Net") as caught:
        build_model(weights, SPEC)
    assert "\n" not in str(caught.value)
