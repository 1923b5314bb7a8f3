"""The report's tables."""

from streamseg.nets import NETS
from streamseg.reproduction import tables
from streamseg.reproduction.architecture import read_architecture
from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import summarise
from tests.reproduction.stored import write_stored


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
