"""The report's sentences."""

import pytest

from streamseg.reproduction import words
from streamseg.reproduction.results import read_results
from tests.reproduction.stored import write_stored


def test_status_says_what_is_missing(tmp_path):
    assert words.status(read_results(write_stored(tmp_path / "all"))).startswith("Complete: all 4 folds")
    some = read_results(write_stored(tmp_path / "some", missing=[("segnet", 2), ("unet", 3)]))
    text = words.status(some)
    assert text.startswith("Not complete: 2 of 4 folds; trained 2026-11-22;")
    assert text.endswith("Missing: SegNet on fold 3, U-Net on fold 4.")
    none = [(net, fold) for net in ("unet", "segnet", "improved_unet") for fold in range(4)]
    text = words.status(read_results(write_stored(tmp_path / "none", missing=none)))
    assert text.startswith("Not complete: 0 of 4 folds; there are no figures")


def test_data_s_twins_and_contradictions_are_named(tmp_path):
    text = " ".join(words.data_words(read_results(write_stored(tmp_path))))
    assert "48 images, 36 with nerve and 12 without" in text
    assert "Near-identical images: 1 group (3 = 9)." in text
    assert "contiguous blocks" in text


def test_long_lists_are_cut(tmp_path):
    results = read_results(write_stored(tmp_path))
    groups = [[f"a{i}", f"b{i}"] for i in range(30)]
    results.data.update(twins=groups, contradictions=[], subjects=7)
    text = " ".join(words.data_words(results))
    assert "30 groups" in text
    assert "a11 = b11; and 18 more" in text
    assert "No near-identical images whose masks contradict one another were found." in text
    assert "by subject (7)" in text


def test_machines_that_differ_are_told_apart(tmp_path):
    results = read_results(write_stored(tmp_path, folds=2))
    assert len(words.machine_words(results)) == 1
    results.runs["unet", 1].machine.update(name="Another processor")
    told = words.machine_words(results)
    assert len(told) == 2
    assert told[1].endswith("unet-2")
    assert "several machines" in words.limits(results)[-1]


@pytest.mark.parametrize(("decay", "expected"), [(0.0, "Adam,"), (1e-4, "AdamW, weight decay 0.0001,")])
def test_settings_name_the_optimiser(tmp_path, decay, expected):
    results = read_results(write_stored(tmp_path))
    results.settings.update(weight_decay=decay)
    assert any(text.startswith(expected) for text in words.setting_words(results))
