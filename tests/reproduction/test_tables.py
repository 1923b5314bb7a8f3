"""The report's tables and sentences, and the layers read from the nets."""

import pytest

from streamseg.reproduction import paper, sentences, tables
from streamseg.reproduction.architecture import read_architecture
from streamseg.reproduction.paper import NETS
from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import summarise
from tests.reproduction.stored import write_stored

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


def stored(tmp_path, **changes):
    results = read_results(write_stored(tmp_path, **changes))
    return results, summarise(results)


def row(table, name):
    (found,) = (dict(zip(table.header, row, strict=True)) for row in table.rows if row[0] == name)
    return found


def test_table_1_lines_stages_up_by_resolution():
    table = tables.table_1({net: read_architecture(net) for net in NETS})
    only_segnet = [row for row in table.rows if row[:2] == ["decoder", "1/16"]]
    assert only_segnet == [["decoder", "1/16", "-", "up, 3 x conv3-512", "-"]]
    assert table.rows[-1] == ["batch normalisations", "", "1", "26", "27"]
    assert len(table.rows) == 12


def test_table_2_beside_the_paper(tmp_path):
    results, summary = stored(tmp_path)
    table = tables.table_2(results, summary)
    found = row(table, "improved U-Net")
    assert found["mean"] == f"{results.dice('improved_unet').mean():.3f}"
    assert found["fold 2"] == f"{results.dice('improved_unet')[12:24].mean():.3f}"
    assert (found["with nerve"], found["paper"]) == ("0.698", "0.657")
    assert row(table, "no net: every mask empty")["mean"] == "0.250"


def test_folds_that_are_not_compared_stand_in_brackets(tmp_path):
    table = tables.table_2(*stored(tmp_path, missing=[("segnet", 1), ("unet", 3), ("segnet", 3)]))
    assert row(table, "U-Net")["fold 2"].startswith("(0.")
    assert row(table, "SegNet")["fold 2"] == "-"
    assert "over 24 held-back images" in table.caption
    assert "in brackets" in table.caption


def test_pairs_name_the_better_net_first(tmp_path):
    table = tables.table_pairs(*stored(tmp_path))
    assert {row[0] for row in table.rows} == {
        "SegNet - U-Net",
        "improved U-Net - U-Net",
        "improved U-Net - SegNet",
    }
    assert all(row[1].startswith("+") for row in table.rows)


def test_table_3_is_exact():
    table = tables.table_3({net: read_architecture(net) for net in NETS})
    assert [row[1:] for row in table.rows] == [
        ["7,848,129", "7,848,129", "equal"],
        ["31,819,649", "31,819,649", "equal"],
        ["8,301,441", "8,301,441", "equal"],
    ]


def test_table_4_has_the_ratio_to_segnet(tmp_path):
    table = tables.table_4(*stored(tmp_path))
    found = row(table, "improved U-Net")
    assert (found["ms per step"], found["images/s"]) == ("1000.0", "2.0")
    assert (found["ratio to SegNet"], found["paper, ratio"], found["paper, minutes"]) == (
        "0.20",
        "0.21",
        "73",
    )
    assert found["minutes"] == f"{4 * 5 * 6 / 60:.1f}"
    assert row(table, "SegNet")["ratio to SegNet"] == "-"


def test_open_choices_say_what_was_used(tmp_path):
    results, _ = stored(tmp_path)
    table = tables.table_open(results)
    assert row(table, "input size")["used here"] == "32x64"
    assert row(table, "epochs")["used here"] == "4"
    assert row(table, "threshold")["used here"] == "as the recipe"


def test_status_says_what_is_missing(tmp_path):
    assert sentences.status(read_results(write_stored(tmp_path / "all"))).startswith("Complete: all 4 folds")
    some = read_results(write_stored(tmp_path / "some", missing=[("segnet", 2), ("unet", 3)]))
    text = sentences.status(some)
    assert text.startswith("Not complete: 2 of 4 folds; trained 2026-11-22;")
    assert text.endswith("Missing: SegNet on fold 3, U-Net on fold 4.")
    none = [(net, fold) for net in ("unet", "segnet", "improved_unet") for fold in range(4)]
    text = sentences.status(read_results(write_stored(tmp_path / "none", missing=none)))
    assert text.startswith("Not complete: 0 of 4 folds; there are no figures")


def test_data_s_near_duplicates_and_contradictions_are_named(tmp_path):
    text = " ".join(sentences.data_words(read_results(write_stored(tmp_path))))
    assert "48 images, 36 with nerve and 12 without" in text
    assert "Near-identical images: 1 group (3 = 9)." in text
    assert "contiguous blocks" in text


def test_long_lists_are_cut(tmp_path):
    results = read_results(write_stored(tmp_path))
    groups = [[f"a{i}", f"b{i}"] for i in range(30)]
    results.data.update(twins=groups, contradictions=[], subjects=7)
    text = " ".join(sentences.data_words(results))
    assert "30 groups" in text
    assert "a11 = b11; and 18 more" in text
    assert "No near-identical images whose masks contradict one another were found." in text
    assert "by subject (7)" in text


def test_different_machines_are_listed_separately(tmp_path):
    results = read_results(write_stored(tmp_path, folds=2))
    assert len(sentences.machine_words(results)) == 1
    results.runs["unet", 1].machine.update(name="Another processor")
    described = sentences.machine_words(results)
    assert len(described) == 2
    assert described[1].endswith("unet-2")
    assert "several machines" in sentences.limits(results)[-1]


@pytest.mark.parametrize(("decay", "expected"), [(0.0, "Adam,"), (1e-4, "AdamW, weight decay 0.0001,")])
def test_settings_name_the_optimiser(tmp_path, decay, expected):
    results = read_results(write_stored(tmp_path))
    results.settings.update(weight_decay=decay)
    assert any(text.startswith(expected) for text in sentences.setting_words(results))


@pytest.mark.slow  # the intervals themselves are simulated in evaluation/test_intervals.py
def test_subjects_are_resampled_where_they_are_known(tmp_path):
    """Results of earlier versions name none: then images count as independent, and the report says so."""
    results, summary = stored(tmp_path / "old")
    assert summary.resampled == "images"
    assert any("assume independent images" in line for line in sentences.limits(results))
    assert "intervals over images" in tables.table_2(results, summary).caption
    new, by_subject = stored(tmp_path / "new", images_of_a_subject=5)
    assert by_subject.resampled == "subjects"
    assert any("are over the 12 subjects" in line for line in sentences.limits(new))
    assert "tests over subjects" in tables.table_pairs(new, by_subject).caption
    pair = ("improved_unet", "unet")
    assert "of 12 subjects unequal" in by_subject.comparisons[pair].test
    assert "of 48 pairs unequal" in summary.comparisons[pair].test
    assert by_subject.nets["unet"].dice.mean == summary.nets["unet"].dice.mean
    assert by_subject.nets["unet"].dice != summary.nets["unet"].dice
