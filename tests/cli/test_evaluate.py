"""``streamseg evaluate`` on small labelled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg.cli import main
from tests.cli.conftest import HEIGHT, WIDTH


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five images of the engine's own size: found exactly, half found, missed, rightly and wrongly empty."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
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
        cv2.imwrite(str(root / "images" / f"{name}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    return root


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


def test_what_is_undefined_is_null(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = evaluate([str(data), "--engine", str(engine), "--limit", "1"], capsys)
    assert (answer["images"], answer["sensitivity"], answer["specificity"]) == (1, None, 1.0)
    assert "per_image" not in answer


def test_without_json_a_line_per_figure(data: Path, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(data), "--engine", str(engine), "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "dice_mean:    1.0000" in lines
    assert "sensitivity:  undefined" in lines


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
