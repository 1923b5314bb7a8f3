"""``streamseg evaluate`` on small labelled data."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg.backends.loading import DEFAULT_NET
from streamseg.cli import main
from streamseg.core.types import InputSpec
from streamseg.datasets import RunSplit, frame_hash, open_dataset
from streamseg.engines.manifest import read_manifest
from tests.backends.small_engines import small_model, write_engine
from tests.cli.conftest import HEIGHT, WIDTH, trained_engine
from tests.datasets.files import write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five images of the engine's own size: found exactly, half found, missed, rightly and wrongly empty."""
    samples = {}
    square, half, nothing = (slice(16, 32), slice(16, 48)), (slice(16, 32), slice(16, 32)), slice(0)
    for name, bright, label in (
        ("exact", square, square),
        ("half", half, square),
        ("missed", nothing, square),
        ("empty", nothing, nothing),
        ("wrong", square, nothing),
    ):
        image, mask = np.full((HEIGHT, WIDTH), 20, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        image[bright] = 235
        mask[label] = 255
        samples[name] = image, mask
    return write_dataset(tmp_path / "data", samples)


def evaluate(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_the_figures_are_right(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = evaluate([str(data), "--engine", str(engine), "--per-image"], capsys)
    dice = {image["name"]: image["dice"] for image in answer["per_image"]}
    assert dice == pytest.approx({"empty": 1, "exact": 1, "half": 2 / 3, "missed": 0, "wrong": 0})
    assert answer["images"] == 5
    assert answer["dice_mean"] == pytest.approx((1 + 1 + 2 / 3) / 5)
    assert answer["dice_median"] == pytest.approx(2 / 3)
    assert answer["iou_mean"] == pytest.approx((1 + 1 + 1 / 2) / 5)
    assert answer["sensitivity"] == pytest.approx(2 / 3)
    assert answer["specificity"] == pytest.approx(1 / 2)
    assert answer["engine"]["name"] == "bright"
    low, high = answer["dice_interval"]
    assert 0 <= low < answer["dice_mean"] < high <= 1
    assert answer["states"] == {"nerve": 3, "no nerve": 2}


def test_images_that_the_weights_were_trained_on_are_counted(
    data: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate([str(data), "--engine", str(engine)], capsys)["trained_on"] is None
    frames = {sample.name: frame_hash(sample.image) for sample in open_dataset(data)}
    split = RunSplit(frozenset({frames["exact"]}), frozenset({frames["half"]}))
    run = trained_engine(engine, tmp_path / "run", split)
    assert main(["evaluate", str(data), "--engine", str(run), "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    # "wrong" shows what "exact" shows, pixel by pixel
    assert answer["trained_on"] == 2
    assert answer["dice_mean_held_back"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert "trained on 2 of these 5 images" in said.err


def test_what_the_shipped_weights_were_trained_on_is_known(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked in ([], ["--engine", f"{DEFAULT_NET}-openvino-fp32"]):
        assert evaluate([str(data), *asked, "--limit", "2"], capsys)["trained_on"] == 0


def test_the_split_of_other_weights_of_a_shipped_net_is_not_known(
    data: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine in the store may be of the weights that an earlier version shipped."""
    folder = Path(shutil.copytree(engine, tmp_path / "engine"))
    replace(read_manifest(folder)[0], source=DEFAULT_NET).write(folder)
    assert evaluate([str(data), "--engine", str(folder), "--limit", "2"], capsys)["trained_on"] is None


def test_phantoms_are_judged_on_without_a_folder(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = evaluate(["phantom:8", "--engine", str(engine)], capsys)
    assert (answer["images"], answer["data"]) == (8, "phantom:8")
    assert answer["structures"]["nerve"]["specificity"] is not None


def test_distances_and_calibration(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = evaluate([str(data), "--engine", str(engine), "--per-image"], capsys)
    images = {image["name"]: image for image in answer["per_image"]}
    assert (images["exact"]["hd95_px"], images["exact"]["asd_px"]) == (0, 0)
    assert images["half"]["hd95_px"] == pytest.approx(16)  # the label goes on 16 columns further
    assert [images["missed"][key] for key in ("hd95_px", "asd_px", "hd95_mm")] == [None] * 3
    assert answer["outlines"] == 2
    assert answer["hd95_mean_px"] == answer["hd95_median_px"] == pytest.approx(8)
    assert answer["hd95_mean_mm"] is None
    # Of 96x64 pixels 256 are missed in "half", 512 in "missed", and 512 are too many in "wrong".
    assert answer["pixel_ece"] == pytest.approx(1280 / (5 * 96 * 64), abs=1e-3)
    assert answer["pixel_brier"] == pytest.approx(1280 / (5 * 96 * 64), abs=1e-3)
    assert images["exact"]["state"] == "nerve"
    assert images["exact"]["confidence"] > 0.99
    assert set(answer["confidence"]) == {"ece", "spearman", "auroc", "bins"}
    assert sum(part["count"] for part in answer["confidence"]["bins"]) == 5


@pytest.mark.parametrize(("spacing", "columns_mm"), [("0.2", 0.2), ("0.5,0.1", 0.1)])
def test_distances_in_mm(
    data: Path, engine: Path, spacing: str, columns_mm: float, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = evaluate([str(data), "--engine", str(engine), "--spacing", spacing], capsys)
    assert answer["hd95_mean_px"] == pytest.approx(8)
    assert answer["hd95_mean_mm"] == pytest.approx(8 * columns_mm)


@pytest.mark.parametrize("spacing", ["", "0", "-1", "nan", "0.1,0.1,0.1", "wide"])
def test_an_invalid_spacing_is_refused(data: Path, spacing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(data), "--spacing", spacing]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert repr(spacing) in err


def test_undefined_figures_are_null(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = evaluate([str(data), "--engine", str(engine), "--limit", "1"], capsys)
    assert (answer["images"], answer["sensitivity"], answer["specificity"]) == (1, None, 1.0)
    assert answer["dice_interval"] is None
    assert (answer["outlines"], answer["asd_mean_px"], answer["confidence"]["auroc"]) == (0, None, None)
    assert "per_image" not in answer


def test_without_json_a_line_per_figure(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(data), "--engine", str(engine), "--limit", "1", "--per-image"]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = dict(line.split(":", 1) for line in lines[1:])
    assert lines[0].startswith("empty  dice 1.0000  iou 1.0000  confidence 1.00  no nerve")
    assert figures["dice_mean"].strip() == "1.0000"
    assert figures["sensitivity"].strip() == figures["dice_interval"].strip() == "undefined"
    assert figures["states"].strip() == "no nerve 1"
    assert not any(name.endswith("_mm") for name in figures)


def test_a_mask_without_an_image_is_named(
    data: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "images" / "half.png").unlink()
    assert main(["evaluate", str(data), "--engine", str(engine)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "half.png" in err


def test_a_mask_of_another_size_is_named(
    data: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(data / "masks" / "half.png"), np.zeros((8, 8), np.uint8))
    assert main(["evaluate", str(data), "--engine", str(engine)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "half.png" in err
    assert "8x8" in err


@pytest.mark.parametrize(("folder", "code"), [("nowhere", 2), (".", 1)])
def test_no_data_set(folder: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path / folder)]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_an_engine_that_outlines_vessels_is_judged_on_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bright pixels are nerve and vessel to it; of the two images only one holds a vessel."""
    image, masks = np.full((HEIGHT, WIDTH), 20, np.uint8), np.zeros((2, HEIGHT, WIDTH), np.uint8)
    image[16:32, 16:48] = 235
    masks[0, 16:32, 16:48], masks[1, 16:32, 16:48] = 1, 2
    folder = write_dataset(tmp_path / "data", {"nerve": (image, masks[0]), "vessel": (image, masks[1])})
    spec = InputSpec(HEIGHT, WIDTH, mean=0.5, std=0.05, threshold=0.5, structures=("nerve", "vessel"))
    engine = write_engine(tmp_path / "both", small_model(spec, outputs=2), spec)
    answer = evaluate([str(folder), "--engine", str(engine), "--per-image"], capsys)
    for found in answer["structures"].values():
        assert found["detection"] == {"true": 1, "misplaced": 0, "false": 1, "missed": 0}
        assert found["specificity"] == 0
    vessels = [one["structures"]["vessel"]["present"] for one in answer["per_image"]]
    assert vessels == [False, True]
    assert main(["evaluate", str(folder), "--engine", str(engine)]) == 0
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["vessel_detection"].strip() == "1 true, 0 misplaced, 1 false, 0 missed"
    assert lines["vessel_images"].strip() == "2"
    assert "vessel_hd95_mean_mm" not in lines
    assert "nerve_dice_mean" not in lines


def structure_figures(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["structures"]["nerve"]
    return found


def test_centroids_areas_sizes_and_confidence(
    data: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: the outline of "half" is the left half of the labelled 16 x 32 pixels."""
    answer = evaluate([str(data), "--engine", str(engine), "--spacing", "0.5,0.1"], capsys)
    found = structure_figures(answer)
    assert found["detection"] == {"true": 2, "misplaced": 0, "false": 1, "missed": 1}
    assert found["centroid_error_mean_px"] == pytest.approx(8 / 2)
    assert found["centroid_error_mean_mm"] == pytest.approx(0.8 / 2)
    assert found["area_px"]["bias"] == pytest.approx(-256 / 2)
    assert found["area_mm2"]["bias"] == pytest.approx(-256 / 2 * 0.05)
    assert found["area_percent"]["bias"] == pytest.approx(-200 / 3 / 2)
    assert found["area_percent"]["low"] < found["area_percent"]["bias"] < found["area_percent"]["high"]
    assert [part["images"] for part in found["by_size"]] == [1, 1, 1]
    assert found["by_size"][0]["smallest"] == pytest.approx(512 / (HEIGHT * WIDTH))
    assert found["by_subject"] is None
    curve = found["risk_coverage"]
    assert curve["outlines"] == 3
    assert curve["points"][-1]["risk"] == pytest.approx(1 - (1 + 2 / 3) / 3)
    assert found["unlike"] == {"images": 0, "dice_mean": None, "dice_mean_withheld": None, "cost": 0}


def test_figures_by_subject(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("exact", "half", "missed", "empty", "wrong")
    rows = "".join(f"{name},{'a' if name in ('exact', 'half') else 'b'}\n" for name in names)
    (data / "subjects.csv").write_text(f"name,subject\n{rows}")
    found = structure_figures(evaluate([str(data), "--engine", str(engine)], capsys))
    by_subject = {part["subject"]: part for part in found["by_subject"]}
    assert by_subject["a"]["dice_mean"] == pytest.approx(5 / 6)
    assert by_subject["b"]["detection"] == {"true": 0, "misplaced": 0, "false": 1, "missed": 1}


def test_a_report_is_one_page_that_loads_nothing(
    data: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "made" / "page.html"
    evaluate([str(data), "--engine", str(engine), "--report", str(page)], capsys)
    text = page.read_text()
    assert "local eyes only" in text
    assert "Nerve, best 1: exact, Dice 1.00" in text
    assert "Nerve, worst 1: " in text
    for heading in ("Nerve", "By size of the structure", "Area", "Risk against coverage"):
        assert f">{heading}</h" in text
    assert "http" not in text.replace("data:image", "")
    assert text.count("<img") == text.count('src="data:image/')


def test_a_report_without_pictures_names_no_image_and_no_subject(
    data: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("exact", "half", "missed", "empty", "wrong")
    (data / "subjects.csv").write_text("name,subject\n" + "".join(f"{one},MRN-{one}\n" for one in names))
    page = tmp_path / "page.html"
    evaluate([str(data), "--engine", str(engine), "--report", str(page), "--no-pictures"], capsys)
    text = page.read_text()
    assert "image/png" not in text
    assert "MRN" not in text
    assert str(data) not in text
    assert "subject 1" in text
    assert "local eyes" not in text


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    data: Path, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(data), "--engine", str(engine), "--report", str(data)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "--report" in err
