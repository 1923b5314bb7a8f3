"""The whole report, from stored results."""

import json
import re
from functools import cache

import pytest

from streamseg.core.errors import DataError, UsageError
from streamseg.reproduction import report
from streamseg.reproduction.architecture import read_architecture
from streamseg.reproduction.report import main, write_report
from tests.reproduction.stored import write_stored


@pytest.fixture(autouse=True)
def _nets_read_once(monkeypatch):
    """Reading the three nets takes longer than all the rest of a report; they are always the same."""
    monkeypatch.setattr(report, "read_architecture", read_once)


read_once = cache(read_architecture)


def test_a_complete_report(tmp_path):
    result = write_report(write_stored(tmp_path))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert [claim["verdict"] for claim in result["claims"]] == ["replicates"] * 5
    assert result["missing"] == []
    assert "Of 5 claims: replicates 5, does not replicate 0" in (tmp_path / "report.md").read_text()
    text = (tmp_path / "report.md").read_text()
    for words in (
        "Table 1.",
        "Table 2.",
        "Table 3.",
        "Table 4.",
        "Figure 6.",
        "Figure 7.",
        "not a medical device",
    ):
        assert words in text
    referred = set(re.findall(r"\]\((pictures/[^)]+)\)", text))
    assert referred == {f"pictures/{name}" for name in ("dice.svg", "loss.svg", "examples.png")}
    assert all((tmp_path / name).stat().st_size for name in referred)
    assert (tmp_path / "report.html").read_text().count("data:image/") == 3


def test_written_again_it_is_the_same(tmp_path):
    write_report(write_stored(tmp_path, folds=2))
    names = ["report.html", "report.md", "result.json"]
    before = [(tmp_path / name).read_bytes() for name in names]
    write_report(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_without_a_complete_fold_there_are_no_figures(tmp_path):
    result = write_report(write_stored(tmp_path, folds=2, missing=[("segnet", 0), ("segnet", 1)]))
    assert result["complete_folds"] == []
    text = (tmp_path / "report.md").read_text()
    assert "0 of 2 folds" in text
    assert "Table 3." in text
    assert "Table 2." not in text


def test_what_is_exported_holds_no_picture_of_the_data(tmp_path):
    out, public = write_stored(tmp_path / "report"), tmp_path / "public"
    result = write_report(out, public)
    names = {path.name for path in public.iterdir()}
    assert names == {f"reproduce-some-data{end}" for end in (".json", ".md", "-loss.svg", "-dice.svg")}
    text = (public / "reproduce-some-data.md").read_text()
    assert {f"reproduce-some-data-{name}.svg" for name in ("loss", "dice")} == set(
        re.findall(r"\]\(([^)]+\.\w+)\)", text)
    )
    assert "Figure 6" not in text
    assert json.loads((public / "reproduce-some-data.json").read_text()) == result
    assert not any(b"<image" in (public / name).read_bytes() for name in names)
    assert not any(str(tmp_path).encode() in (public / name).read_bytes() for name in names)


def test_nothing_to_export_before_a_fold_is_complete(tmp_path):
    out = write_stored(tmp_path / "report", folds=2, missing=[("unet", 0), ("unet", 1)])
    with pytest.raises(UsageError, match="nothing to export"):
        write_report(out, tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_some_nets_only(tmp_path):
    out = write_stored(tmp_path, folds=2)
    plan = json.loads((out / "plan.json").read_text())
    plan["settings"]["nets"] = ["unet"]
    (out / "plan.json").write_text(json.dumps(plan))
    result = write_report(out)
    assert {claim["verdict"] for claim in result["claims"]} == {"undecided"}
    assert list(result["nets"]) == ["unet"]


def test_as_a_module_without_the_data(tmp_path, monkeypatch, capsys):
    out = write_stored(tmp_path / "report", folds=2)
    monkeypatch.setattr("sys.argv", ["report", str(out), "--export", str(tmp_path / "public")])
    main()
    assert (out / "report.html").exists()
    assert len(list((tmp_path / "public").iterdir())) == 4
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "error: there is no report" in capsys.readouterr().err


def test_a_damaged_run_is_named(tmp_path):
    (write_stored(tmp_path, folds=2) / "runs/segnet-1/result.json").write_text("{")
    with pytest.raises(DataError, match="segnet-1"):
        write_report(tmp_path)
