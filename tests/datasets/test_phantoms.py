import pytest

from streamseg.core.errors import UsageError
from streamseg.datasets.phantoms import open_or_draw, phantom_count, phantom_samples


def test_phantoms_are_drawn_once_and_missing_ones_again(tmp_path):
    data = open_or_draw("phantom:3", tmp_path)
    assert len(data) == 3
    assert any(sample.nerve.any() for sample in data)
    assert all(sample.vessel is not None for sample in data)
    files = sorted((tmp_path / "phantom").rglob("*.png"))
    before = [p.read_bytes() for p in files]
    files[1].unlink()
    kept = files[0].stat().st_mtime_ns
    open_or_draw("phantom:3", tmp_path)
    assert [p.read_bytes() for p in files] == before
    assert files[0].stat().st_mtime_ns == kept
    assert len(open_or_draw("phantom:2", tmp_path)) == 2


def test_a_folder_is_a_folder(tmp_path):
    assert phantom_count(str(tmp_path)) is None
    assert phantom_count("phantom") == 200
    assert phantom_count("phantom:12") == 12


@pytest.mark.parametrize("data", ["phantom:", "phantom:x", "phantom:1", "phantom:-3"])
def test_an_invalid_number_is_named(data):
    with pytest.raises(UsageError, match="invalid number of phantoms"):
        phantom_count(data)


def test_phantoms_come_with_and_without_nerve():
    samples = list(phantom_samples(12, seed=0))
    assert 0 < sum(s.nerve.any() for s in samples) < 12
    assert [s.name for s in samples] == [f"phantom-{n}" for n in range(12)]
