"""``streamseg check`` on small data sets, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamseg.cli import main
from streamseg.cli.check import LISTED
from streamseg.phantom import render_still


def write(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def stills() -> list[Any]:
    """Images of three people, of which the first two show nerve."""
    return [render_still(seed, nerve=seed < 2) for seed in range(3)]


@pytest.fixture
def data(tmp_path: Path, stills: list[Any]) -> Path:
    """Kaggle's layout: two subjects; 2_1 is 1_1 again, with an empty mask."""
    root = tmp_path / "data"
    for name, number, nerve in (("1_1", 0, True), ("1_2", 1, True), ("2_1", 0, False), ("2_2", 2, False)):
        mask = stills[number].nerve * np.uint8(255)
        write(root / "train" / f"{name}.tif", stills[number].image)
        write(root / "train" / f"{name}_mask.tif", mask if nerve else np.zeros_like(mask))
    return root


def check(path: Path, capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    assert main(["check", str(path), "--json"]) == code
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err.count("\n") == (1 if code else 0)
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_all_that_is_in_a_data_set(data: Path, capsys: pytest.CaptureFixture[str], stills: list[Any]) -> None:
    height, width = stills[0].image.shape
    expected = {
        "images": 4,
        "subjects": 2,
        "sizes": {f"{width}x{height}": 4},
        "with_nerve": 2,
        "without_nerve": 2,
        "with_vessel": 0,
        "near_identical": [["1_1", "2_1"]],
        "contradictions": [["1_1", "2_1"]],
        "bad_files": [],
    }
    assert check(data, capsys) == {"data": str(data), **expected}
    assert check(data / "train", capsys) == {"data": str(data / "train"), **expected}


def test_the_same_in_lines(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "images:         4" in lines
    assert "near identical: 2 images in 1 group" in lines
    assert lines[lines.index("contradictions: 2 images in 1 pair") + 1] == "  1_1, 2_1"
    assert lines[-1] == "bad files:      0"


def test_every_bad_file_is_named_and_the_good_ones_counted(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = data / "train"
    write(train / "3_1.tif", np.zeros((20, 30), np.uint8))
    write(train / "3_2_mask.tif", np.zeros((20, 30), np.uint8))
    (train / "1_2.tif").write_bytes(b"")
    write(train / "2_1_mask.tif", np.zeros((20, 30), np.uint8))
    mask = np.asarray(Image.open(train / "2_2_mask.tif")).copy()
    mask[0, 0] = 77
    write(train / "2_2_mask.tif", mask)
    answer = check(data, capsys, code=1)
    assert answer["images"] == 1
    assert answer["subjects"] == 1
    bad = "\n".join(answer["bad_files"])
    assert len(answer["bad_files"]) == 5
    for named in (
        "3_2_mask.tif has no image",
        "3_1.tif has no mask",
        "1_2.tif: it is empty",
        "2_1_mask.tif is 30x20, its image",
        "2_2_mask.tif holds the values [0, 77]",
    ):
        assert named in bad
    assert main(["check", str(data)]) == 1
    out, err = capsys.readouterr()
    assert all(f"  {line}" in out.splitlines() for line in answer["bad_files"])
    assert err == f"5 bad files in {data}\n"


def test_vessels_and_images_without_subjects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stills: list[Any]
) -> None:
    still = stills[0]
    for name, mask in (
        ("a", still.nerve * np.uint8(1) + ~still.nerve * np.uint8(2)),
        ("b", still.nerve * np.uint8(255)),
    ):
        write(tmp_path / f"images/{name}.png", still.image)
        write(tmp_path / f"masks/{name}.png", mask)
    answer = check(tmp_path, capsys)
    assert (answer["subjects"], answer["with_vessel"], answer["with_nerve"]) == (None, 1, 2)
    assert (answer["near_identical"], answer["contradictions"]) == ([["a", "b"]], [])


def test_long_lists_are_cut_without_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stills: list[Any]
) -> None:
    for number in range(LISTED + 3):
        write(tmp_path / f"images/{number}.png", stills[0].image)
        write(tmp_path / f"masks/{number}.png", np.full_like(stills[0].image, 255 if number == 0 else 0))
    assert main(["check", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"  {', '.join(str(n) for n in range(LISTED))}, ..." in lines
    assert f"contradictions: {LISTED + 3} images in {LISTED + 2} pairs" in lines
    assert "  and 2 more; --json lists all" in lines


@pytest.mark.parametrize(
    ("layout", "code", "message"),
    [
        (None, 2, "no data set folder"),
        ((), 1, "unknown layout"),
        (("images", "masks"), 1, "holds no images"),
        (("train",), 1, "holds no images"),
    ],
)
def test_no_data_set(
    layout: tuple[str, ...] | None,
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "data"
    for folder in layout or ():
        (root / folder).mkdir(parents=True)
    if layout is not None:
        root.mkdir(exist_ok=True)
    assert main(["check", str(root)]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
