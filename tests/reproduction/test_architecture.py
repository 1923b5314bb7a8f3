"""Tables 1 and 3, read off the nets, are the paper's."""

import pytest

from streamseg.nets import NETS
from streamseg.reproduction import paper
from streamseg.reproduction.architecture import read_architecture

TABLE_1 = {
    "unet": [
        *(f"2 x conv3-{width}" for width in (32, 64, 128, 256, 512)),
        *(f"up+merge, 2 x conv3-{width}" for width in (256, 128, 64, 32)),
    ],
    "segnet": [
        *("2 x conv3-64", "2 x conv3-128", "3 x conv3-256", "3 x conv3-512", "3 x conv3-512"),
        *("up, 3 x conv3-512", "up, 3 x conv3-512", "up, 3 x conv3-256", "up, 2 x conv3-128"),
        "up, 2 x conv3-64",
    ],
    "improved_unet": [
        *(f"2 x conv3-{width} + shortcut-{width}" for width in (32, 64, 128, 256, 512)),
        *(f"up+merge, 2 x conv3-{width} + shortcut-{width}" for width in (256, 128, 64, 32)),
    ],
}


@pytest.mark.parametrize("net", NETS)
def test_stages_and_parameters_are_the_paper_s(net):
    found = read_architecture(net)
    assert [stage.text for stage in found.stages] == [*TABLE_1[net], "conv1-1"]
    assert found.parameters == paper.PARAMETERS[net]


@pytest.mark.parametrize(
    ("net", "scales", "normalisations"),
    [("unet", [1, 2, 4, 8, 16, 8, 4, 2, 1, 1], 1), ("segnet", [1, 2, 4, 8, 16, 16, 8, 4, 2, 1, 1], 26)],
)
def test_where_the_stages_lie(net, scales, normalisations):
    stages = read_architecture(net).stages
    assert [stage.scale for stage in stages] == scales
    assert [stage.part for stage in stages] == ["encoder"] * 5 + ["decoder"] * (len(stages) - 6) + ["head"]
    assert sum(stage.normalisations for stage in stages) == normalisations
