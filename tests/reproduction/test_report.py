"""The whole report from stored results, and its figures."""

import io
import json
import re
import xml.etree.ElementTree as ET
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.core.errors import DataError, UsageError
from streamseg.reproduction import report
from streamseg.reproduction.architecture import read_architecture
from streamseg.reproduction.figures import dice_figure, example_figure, loss_figure, smoothed
from streamseg.reproduction.report import main, write_report
from streamseg.reproduction.results import read_results
from streamseg.reproduction.summary import summarise
from streamseg.reproduction.trials import precision_trials, rate_trials, read_trials
from streamseg.training.config import recipe
from tests.reproduction.stored import DICE, plan_of, write_stored, write_trial


@pytest.fixture(scope="module", autouse=True)
def _nets_read_once():
    """Reading the three nets takes longer than all the rest of a report; they are always the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "read_architecture", cache(read_architecture))
        yield


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A complete report's folder, that of its export, and its result."""
    root = tmp_path_factory.mktemp("complete")
    out, public = write_stored(root / "report"), root / "public"
    return out, public, write_report(out, public)


@pytest.fixture
def no_figures(monkeypatch):
    """What is drawn does not matter."""
    for name in ("dice_figure", "loss_figure", "example_figure"):
        monkeypatch.setattr(report, name, lambda *_: b"<svg/>")


def test_a_complete_report(complete):
    out, _, result = complete
    assert json.loads((out / "result.json").read_text()) == result
    assert [claim["verdict"] for claim in result["claims"]] == ["replicates"] * 5
    assert result["missing"] == []
    text = (out / "report.md").read_text()
    assert "Of 5 claims: replicates 5, does not replicate 0" in text
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
    assert all((out / name).stat().st_size for name in referred)
    assert (out / "report.html").read_text().count("data:image/") == 3


def test_what_differs_from_the_paper_comes_before_the_verdicts(complete):
    text = (complete[0] / "report.md").read_text()
    assert text.index("What differs from the paper") < text.index("What replicates")
    assert "Images without nerve: 12 of 48; in the paper more than half" in text
    assert "5,635" in text


def test_a_paragraph_to_quote(complete):
    out, _, result = complete
    words = result["quotation"]
    assert words in (out / "report.md").read_text().replace("\\", "")
    assert "the mean Dice was: U-Net 0.624" in words.replace("\\", "")
    assert "A step of the improved U-Net took 0.20 of SegNet's time, and 0.27 of its arithmetic" in words
    assert "U-Net in 0 of 4 runs" in words
    assert "Of the paper's 5 claims 5 replicate, 0 do not, 0 are undecided." in words


def test_trials_rule_and_what_is_beside_the_paper(tmp_path, no_figures):
    config = recipe("paper", height=32, width=64, epochs=4, precision="bf16-mixed", patience=2)
    plan = plan_of(4, config, rates=(1e-4, 1e-3), beside=("lite_unet",), about="A copy of a copy.")
    for trial in rate_trials(plan):
        write_trial(tmp_path, trial, dice=0.5 if trial.rate == 1e-3 else 0.4)
    for trial in precision_trials(plan, read_trials(tmp_path, plan)):
        write_trial(tmp_path, trial, dice=0.5)
    write_stored(tmp_path, plan=plan, ended={"unet": 3}, dice={**DICE, "unet": 0.0})
    result = write_report(tmp_path)
    assert result["chosen"] == {"rates": dict.fromkeys(DICE, 1e-3), "precision": "bf16-mixed"}
    assert len(result["trials"]) == 9
    assert (
        result["beside"]["lite_unet-best"]["dice"]["mean"] > result["nets"]["improved_unet"]["dice"]["mean"]
    )
    text = (tmp_path / "report.md").read_text().replace("\\_", "_")
    for words in (
        "A copy of a copy.",
        "none of its last 2 epochs has a held-back Dice at least 0.005 above the best",
        "Learning rates chosen: U-Net 0.001, SegNet 0.001, improved U-Net 0.001.",
        "Arithmetic of all nets: bf16-mixed, since it changed nothing",
        "bfloat16 less float32",
        "By the recipe best: lite_unet; 4 epochs",
        "U-Net in 4 of 4 runs, SegNet in 0 of 4 runs",
        "Not in the paper: the recipe beside the architecture",
    ):
        assert words in text, words
    (row,) = (line for line in text.splitlines() if line.startswith("| U-Net, fold 2 "))
    assert [cell.strip() for cell in row.strip("|").split("|")][2:5] == ["3", "15", "flat"]
    assert row.endswith("| 100.0 % | yes |")


def test_trials_that_are_not_done_are_missed(tmp_path, no_figures):
    plan = plan_of(3, rates=(1e-4, 1e-3))
    write_stored(tmp_path, plan=plan, missing=list(plan.runs()))
    write_trial(tmp_path, rate_trials(plan)[0])
    assert write_report(tmp_path)["chosen"] is None
    assert "The trials are not complete." in (tmp_path / "report.md").read_text()


def test_written_again_it_is_the_same(complete):
    out, _, _ = complete
    names = ["report.html", "report.md", "result.json"]
    before = [(out / name).read_bytes() for name in names]
    write_report(out)
    assert [(out / name).read_bytes() for name in names] == before


def test_without_a_complete_fold_there_are_no_figures(tmp_path):
    result = write_report(write_stored(tmp_path, folds=2, missing=[("segnet", 0), ("segnet", 1)]))
    assert result["complete_folds"] == []
    text = (tmp_path / "report.md").read_text()
    assert "0 of 2 folds" in text
    assert "Table 3." in text
    assert "Table 2." not in text


def test_the_export_holds_no_image_of_the_data(complete):
    _, public, result = complete
    names = {path.name for path in public.iterdir()}
    assert names == {f"reproduce-some-data{end}" for end in (".json", ".md", "-loss.svg", "-dice.svg")}
    text = (public / "reproduce-some-data.md").read_text()
    assert {f"reproduce-some-data-{name}.svg" for name in ("loss", "dice")} == set(
        re.findall(r"\]\(([^)]+\.\w+)\)", text)
    )
    assert "Figure 6" not in text
    assert json.loads((public / "reproduce-some-data.json").read_text()) == result
    assert not any(b"<image" in (public / name).read_bytes() for name in names)
    assert not any(str(public.parent).encode() in (public / name).read_bytes() for name in names)


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


def test_as_a_module_without_the_data(tmp_path, monkeypatch, capsys, no_figures):
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


@pytest.mark.parametrize(("folds", "ended"), [(1, {}), (4, {}), (4, {"unet": 2})])
def test_curves_are_svg_and_the_same_each_time(tmp_path, folds, ended):
    plan = plan_of(beside=("lite_unet",))
    missing = [(net, fold) for net, fold in plan.runs() if fold >= folds]
    results = read_results(write_stored(tmp_path, missing=missing, ended=ended, plan=plan))
    for draw in (lambda: loss_figure(results), lambda: dice_figure(summarise(results))):
        drawn = draw()
        assert ET.fromstring(drawn).tag.endswith("svg")
        assert b"<image" not in drawn
        assert draw() == drawn


def test_smoothing_starts_with_what_there_is():
    assert smoothed([4.0, 2.0, 0.0, 0.0], 2) == pytest.approx([4, 3, 1, 0])
    assert smoothed([1.0, 2.0], 9) == pytest.approx([1, 1.5])


@pytest.mark.parametrize("found", [0, 255])
def test_examples_of_nets_that_find_nothing_or_everything(tmp_path, found):
    results = read_results(write_stored(tmp_path, folds=2))
    cv2.imwrite(str(tmp_path / "runs/unet-1/example.png"), np.full((42, 58), found, np.uint8))
    cv2.imwrite(str(tmp_path / "examples/1-mask.png"), np.full((42, 58), found, np.uint8))
    picture = Image.open(io.BytesIO(example_figure(results, tmp_path)))
    assert picture.format == "PNG"
    assert picture.width > 2 * picture.height  # five columns, two rows


def test_a_missing_example_is_named(tmp_path):
    results = read_results(write_stored(tmp_path, folds=2))
    (tmp_path / "runs/segnet-2/example.png").unlink()
    with pytest.raises(DataError, match=r"segnet-2.*remove the run"):
        example_figure(results, tmp_path)
