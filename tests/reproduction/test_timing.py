"""Steps of the nets, timed in turn."""

import pytest

from streamseg.core.errors import DataError
from streamseg.reproduction.claims import CONTRADICTED, REPLICATES, UNDECIDED, judge
from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import summarise
from streamseg.reproduction.tables import table_arithmetic
from streamseg.reproduction.timing import TIMING, measure_steps, read_timing, write_timing
from streamseg.training.config import recipe
from streamseg.training.devices import make_fabric
from tests.reproduction.stored import write_stored

CONFIG = recipe("paper", height=32, width=32, batch=1)


def test_each_net_has_a_time_in_every_round(tmp_path):
    found = measure_steps(["unet", "improved_unet"], CONFIG, make_fabric("cpu"), 2)
    assert found is not None
    assert {net: len(times) for net, times in found.items()} == {"unet": 2, "improved_unet": 2}
    assert min(min(times) for times in found.values()) > 0
    write_timing(tmp_path, found)
    assert read_timing(tmp_path, ["unet", "improved_unet"]) == found


def test_asked_to_stop_it_measures_nothing():
    assert measure_steps(["unet"], CONFIG, make_fabric("cpu"), 2, should_stop=lambda: True) is None


@pytest.mark.parametrize(("ratio", "scatter"), [(0.2, 0.0), (0.5, 0.0), (0.2, 2.0)])
def test_the_ratio_is_that_of_one_round(tmp_path, ratio, scatter):
    """The machine is three times as slow in every other round, all nets alike."""
    busy = [1.0, 3.0] * 5
    own = [value * ratio * (1 + scatter * (number % 3)) for number, value in enumerate(busy)]
    out = write_stored(tmp_path)
    write_timing(out, {"unet": busy, "segnet": busy, "improved_unet": own})
    results = read_results(out)
    summary = summarise(results)
    claim = judge(summary)[3]
    if scatter:
        assert claim.verdict == UNDECIDED
    else:
        assert claim.verdict == (REPLICATES if ratio == 0.2 else CONTRADICTED)
        assert claim.measured.startswith(f"{ratio:.3f} [{ratio:.3f}, {ratio:.3f}] in 10 rounds")
    rows = {row[0]: row for row in table_arithmetic(results, summary).rows}
    assert rows["improved U-Net"][6] == "0.273"
    assert rows["SegNet"][4] == "-"


@pytest.mark.parametrize(
    "text", ['{"unet": [1.0]}', '{"unet": [1.0], "segnet": ["1"]}', "[]", '{"unet": [], "segnet": []}']
)
def test_damaged_times_are_named(tmp_path, text):
    (tmp_path / TIMING).write_text(text)
    with pytest.raises(DataError, match=TIMING.replace(".", r"\.")):
        read_timing(tmp_path, ["unet", "segnet"])
