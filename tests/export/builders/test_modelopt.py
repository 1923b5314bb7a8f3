"""INT8 as explicit pairs: which layers, which ranges, what compilers get to see, and how close it stays."""

import numpy as np
import pytest
import torch
from torch import nn

from streamseg.backends.loading import WEIGHTS
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import read_checkpoint
from streamseg.export.builders.modelopt import FakeQuantiser, QuantisedConv, quantise, ranges
from streamseg.nets.inference import InferenceNet, inference_net
from streamseg.segmentation.preprocess import to_tensor
from tests.nets.random_nets import images, needs_modelopt, random_checkpoint

SPEC = InputSpec(96, 112, mean=0.25, std=0.25, threshold=0.5)


def quantised(net: str = "unet", preset: str = "mixed", *, unsigned: bool = False) -> InferenceNet:
    checkpoint = random_checkpoint(net)
    return quantise(inference_net(checkpoint), images(), checkpoint.spec, preset=preset, unsigned=unsigned)


def test_values_are_rounded_to_256_steps_and_clipped_to_the_range():
    x = torch.tensor([-9.0, -1.27, -0.004, 0.006, 1.0, 1.27, 9.0])
    signed = FakeQuantiser(torch.tensor(1.27))
    torch.testing.assert_close(signed(x), torch.tensor([-1.28, -1.27, 0, 0.01, 1.0, 1.27, 1.27]))
    unsigned = FakeQuantiser(torch.tensor(2.55), unsigned=True)
    torch.testing.assert_close(unsigned(x), torch.tensor([0, 0, 0, 0.01, 1.0, 1.27, 2.55]))


def test_weights_have_a_range_per_output_channel_and_a_dead_channel_stays_zero():
    conv = nn.Conv2d(2, 3, 3, padding=1).requires_grad_(False)
    conv.weight[0], conv.weight[1], conv.weight[2] = 1.0, 1e-3, 0.0
    layer = QuantisedConv(conv, torch.tensor(4.0), unsigned=False)
    torch.testing.assert_close(layer.weight(conv.weight), conv.weight, rtol=1e-6, atol=0)
    x = torch.arange(-4.0, 5.0).repeat(1, 2, 1, 1)
    assert torch.isfinite(layer(x)).all()
    assert float((layer(x) - conv(x)).abs().max()) < 0.4


def test_ranges_survive_half_precision():
    small = FakeQuantiser(torch.tensor(3e-5)).half()
    assert small.amax.dtype == small.scale.dtype == torch.float32
    assert float(small.scale) == pytest.approx(3e-5 / 127)
    assert small(torch.ones(2, dtype=torch.float16)).dtype == torch.float16


@needs_modelopt
@pytest.mark.parametrize(
    ("net", "preset", "count"),
    [
        ("unet", "performance", 19),
        ("lite_unet", "mixed", 55),
        pytest.param("segnet", "mixed", 25, marks=pytest.mark.slow),
    ],
)
def test_every_convolution_reads_a_quantised_input_but_for_the_ends(net, preset, count):
    found = ranges(quantised(net, preset))
    assert len(found) == count
    assert ("head" in found) == (preset == "performance")
    assert min(found.values()) > 0


@needs_modelopt
def test_the_two_readers_of_a_skip_share_its_range():
    found = ranges(quantised("improved_unet"))
    for below, beside in (("encoder.1", "decoder.3"), ("encoder.3", "decoder.1"), ("bottom", "decoder.0")):
        assert found[f"{below}.0.conv"] == found[f"{beside}.0.conv"]
    assert len(set(found.values())) == len(found) - 4


@needs_modelopt
def test_what_reads_negative_values_stays_signed():
    """Projections of inverted residuals have no ReLU."""
    layers = {
        n: m for n, m in quantised("lite_unet", unsigned=True).named_modules() if type(m) is QuantisedConv
    }
    unsigned = {name.removeprefix("net.") for name, layer in layers.items() if not layer.input.lowest}
    assert {"encoder.0.0.layers.1.conv", "decoder.1.1.conv"} <= unsigned
    assert not {"encoder.1.0.layers.0.conv", "decoder.1.0.conv"} & unsigned


@needs_modelopt
@pytest.mark.slow
def test_ranges_are_reproducible_and_leave_the_net_as_it_was():
    checkpoint = random_checkpoint("unet")
    net = inference_net(checkpoint)
    first, second = (quantise(net, images(), checkpoint.spec, preset="mixed") for _ in range(2))
    assert ranges(first) == ranges(second)
    x = torch.randn(1, 1, 32, 64)
    torch.testing.assert_close(first(x), second(x), rtol=0, atol=0)
    assert 0 < float((first(x) - net(x)).abs().max()) < 0.2
    torch.testing.assert_close(net(x), inference_net(checkpoint)(x), rtol=0, atol=0)


@needs_modelopt
def test_torch_export_sees_one_marked_operator_per_tensor_and_nothing_of_modelopt():
    net = quantised()
    exported = torch.export.export(net, (torch.zeros(1, 1, 32, 64),))
    targets = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert targets.count("tensorrt.quantize_op.default") == 2 * 17
    assert not any("round" in target or "clamp" in target for target in targets)
    assert not any(type(module).__module__.startswith("modelopt") for module in net.modules())


@needs_modelopt
def test_invalid_presets_and_missing_images_are_refused():
    checkpoint = random_checkpoint("unet")
    net = inference_net(checkpoint)
    with pytest.raises(UsageError, match="choose one of mixed, performance"):
        quantise(net, images(), checkpoint.spec, preset="best")
    with pytest.raises(EngineError, match="received none"):
        quantise(net, [], checkpoint.spec, preset="mixed")


@needs_modelopt
@pytest.mark.parametrize("unsigned", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trained_masks_stay_close(unsigned):
    from streamseg.datasets.phantoms import phantom_samples

    checkpoint = read_checkpoint(WEIGHTS / "improved_unet.safetensors")
    net = inference_net(checkpoint)
    frames = [sample.image for sample in phantom_samples(6, seed=0)]
    int8 = quantise(net, frames[:4], SPEC, preset="mixed", unsigned=unsigned)
    with torch.inference_mode():
        for frame in frames[4:]:
            x = torch.from_numpy(to_tensor(frame, SPEC))
            assert float((int8(x) - net(x)).abs().mean()) < 2e-3
            assert np.mean((int8(x) >= 0.5).numpy() != (net(x) >= 0.5).numpy()) < 2e-3
