"""``streamseg submit`` on the Kaggle layout, as the phantom's writer imitates it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.cli import main
from streamseg.datasets import RunSplit, frame_hash, open_dataset
from streamseg.datasets.kaggle_writer import write_kaggle
from streamseg.evaluation import kaggle_submission as submission
from tests.cli.conftest import HEIGHT, WIDTH, trained_engine
from tests.datasets.rle import decode

NUMBERS = (1, 2, 9, 10, 21)


def bright(path: Path, side: int, mask: Path | None = None, *, nerve: bool = True) -> None:
    """An image with a bright square, which the engine calls nerve, and its mask. No near-duplicates."""
    blocks = np.random.default_rng([*path.name.encode()]).integers(0, 120, (HEIGHT // 4, WIDTH // 4))
    picture = np.kron(blocks, np.ones((4, 4))).astype(np.uint8)
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    picture[8 : 8 + side, 8 : 8 + side] = 235
    label[8 : 8 + side, 8 : 8 + side] = 255 if nerve else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    if mask is not None:
        Image.fromarray(label).save(mask)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "kaggle"
    write_kaggle(root, images=2, subjects=1, seed=0)
    for number in NUMBERS:
        bright(root / "test" / f"{number}.tif", number)
    return root


@pytest.fixture
def kaggle(made: Path, tmp_path: Path) -> Path:
    """Two phantoms of train/ and five test images: the number n shows a square of n pixels a side."""
    return shutil.copytree(made, tmp_path / "kaggle")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Validation images in the same layout: small squares are no nerve, large ones are."""
    train = tmp_path / "labelled" / "train"
    for number, side in enumerate((4, 5, 12, 16), start=1):
        bright(train / f"1_{number}.tif", side, train / f"1_{number}_mask.tif", nerve=side > 8)
    return train.parent


def submit(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["submit", *arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def masks(path: Path) -> dict[int, np.ndarray]:
    lines = path.read_text().splitlines()
    assert lines[0] == "img,pixels"
    pairs = [line.split(",") for line in lines[1:]]
    return {int(number): decode(runs, (HEIGHT, WIDTH)) for number, runs in pairs}


def test_the_file_holds_every_image_in_numeric_order(
    kaggle: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "submission.csv"
    answer = submit([str(kaggle), "--out", str(out), "--engine", str(engine)], capsys)
    assert (answer["images"], answer["empty"], answer["min_pixels"], answer["validation"]) == (5, 0, 0, None)
    found = masks(out)
    assert tuple(found) == NUMBERS
    for number, mask in found.items():
        assert mask.sum() == number**2
        assert mask[8 : 8 + number, 8 : 8 + number].all()
    assert not list(tmp_path.glob("*.progress"))


def test_it_takes_phantoms_and_weights(
    kaggle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real layout's size, 580x420, through the shipped engine."""
    for path in (kaggle / "test").iterdir():
        path.unlink()
    for sample in (1, 2):
        shutil.copy(kaggle / "train" / f"1_{sample}.tif", kaggle / "test" / f"{sample}.tif")
    out = tmp_path / "s.csv"
    assert submit([str(kaggle / "test"), "--out", str(out)], capsys)["images"] == 2
    for line in out.read_text().splitlines()[1:]:
        decode(line.split(",")[1], (420, 580))


def test_the_threshold_is_chosen_on_validation(
    kaggle: Path, labelled: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    arguments = [str(kaggle), "--out", str(out), "--weights", str(engine), "--validation", str(labelled)]
    answer = submit(arguments, capsys)
    assert answer["min_pixels"] == 5 * 5 + 1
    assert answer["validation"] == {
        "min_pixels": 26,
        "images": 4,
        "dice_before": pytest.approx(0.5),
        "dice_after": pytest.approx(1),
    }
    assert answer["empty"] == 2
    assert {number: mask.any() for number, mask in masks(out).items()} == {
        number: number > 5 for number in NUMBERS
    }


def test_the_threshold_is_not_chosen_on_images_that_the_weights_were_trained_on(
    kaggle: Path, labelled: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last half was held out by share; the run itself had trained on half of it."""
    for number, label in enumerate((labelled / "train").glob("1_?.tif"), start=1):
        for path in (label, label.with_name(f"{label.stem}_mask.tif")):
            path.rename(path.with_name(path.name.replace("1_", f"{number}_", 1)))  # a subject each
    data = open_dataset(labelled)
    frames = [frame_hash(sample.image) for sample in data]
    split = RunSplit(frozenset(frames[1:]), frozenset(frames[:1]))
    run = trained_engine(engine, tmp_path / "run", split)
    arguments = [str(kaggle), "--engine", str(run), "--validation", str(labelled), "--json"]
    assert main(["submit", *arguments, "--out", str(tmp_path / "a.csv"), "--validation-last", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["validation"]["images"] == 1
    assert main(["submit", *arguments, "--out", str(tmp_path / "b.csv")]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["validation"]["images"] == 4
    assert "trained on 3 of the 4 validation images" in said.err


def test_the_threshold_set_by_hand(
    kaggle: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    arguments = [str(kaggle), "--out", str(out), "--engine", str(engine), "--min-pixels"]
    assert submit([*arguments, "81"], capsys)["empty"] == 2
    assert submit([*arguments, "82", "--force"], capsys)["empty"] == 3


def test_only_the_block_that_training_held_back(
    kaggle: Path, labelled: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, side in ((1, 6), (2, 16)):
        train = labelled / "train"
        bright(train / f"2_{number}.tif", side, train / f"2_{number}_mask.tif", nerve=side > 8)
    arguments = ["--validation", str(labelled), "--validation-last", "0.3", "--engine", str(engine)]
    answer = submit([str(kaggle), "--out", str(tmp_path / "s.csv"), *arguments], capsys)
    assert answer["validation"]["images"] == 2
    assert answer["min_pixels"] == 37


def test_an_unreadable_image_is_named_and_the_others_are_stored(
    kaggle: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    out = tmp_path / "s.csv"
    (kaggle / "test" / "2.tif").write_bytes(b"no picture")
    assert main(["submit", str(kaggle), "--out", str(out), "--engine", str(engine)]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("error: 1 of 5 test images cannot be read")
    assert "2.tif" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not out.exists()

    predicted = []
    predict = submission.predict
    monkeypatch.setattr(
        submission, "predict", lambda image, s: predicted.append(image.number) or predict(image, s)
    )
    bright(kaggle / "test" / "2.tif", 2)
    assert submit([str(kaggle), "--out", str(out), "--engine", str(engine)], capsys)["images"] == 5
    assert predicted == [2]
    assert {number: mask.sum() for number, mask in masks(out).items()} == {n: n**2 for n in NUMBERS}
    assert not list(tmp_path.glob("*.progress"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_no_half_file_and_goes_on(
    number: int,
    code: int,
    kaggle: Path,
    engine: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "s.csv"
    arguments = [str(kaggle), "--out", str(out), "--engine", str(engine)]
    predict, predicted = submission.predict, []

    def stopped_at_the_second(image: submission.NumberedImage, segmenter: Any) -> submission.Prediction:
        predicted.append(image.number)
        if len(predicted) == 2:
            os.kill(os.getpid(), number)
        return predict(image, segmenter)

    with monkeypatch.context() as patched:
        patched.setattr(submission, "predict", stopped_at_the_second)
        assert main(["submit", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "after 2 of 5 images" in captured.err
    assert predicted == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["s.csv.progress"]
    assert submit(arguments, capsys)["images"] == 5
    assert {key: mask.sum() for key, mask in masks(out).items()} == {n: n**2 for n in NUMBERS}


def test_an_output_is_kept_unless_forced(
    kaggle: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    out.write_text("mine")
    arguments = [str(kaggle), "--out", str(out), "--engine", str(engine)]
    assert main(["submit", *arguments]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert submit([*arguments, "--force"], capsys)["images"] == 5


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["nowhere"], 2, "nowhere"),
        (["empty"], 1, "no test images"),
        (["kaggle/train"], 1, "1_1.tif"),
        (["kaggle", "--validation", "empty", "--min-pixels", "3"], 2, "--min-pixels"),
        (["kaggle", "--validation", "empty"], 1, "empty"),
        (["kaggle", "--validation-last", "0.2"], 2, "--validation-last"),
        (["kaggle", "--validation", "kaggle", "--validation-last", "nan"], 2, "nan"),
        (["kaggle", "--min-pixels", "-1"], 2, "min-pixels"),
        (["kaggle", "--engine", "nothing"], 2, "nothing"),
    ],
)
def test_a_wrong_call_is_one_line(
    options: list[str],
    code: int,
    named: str,
    kaggle: Path,
    engine: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    chosen = [] if "--engine" in options else ["--engine", str(engine)]
    assert main(["submit", *options, "--out", "s.csv", *chosen]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert named in err
    assert not list(tmp_path.glob("s.csv*"))


def test_a_colour_image_is_taken_as_grey(
    kaggle: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kaggle / "test" / "9.tif"
    cv2.imwrite(str(path), cv2.cvtColor(np.asarray(Image.open(path)), cv2.COLOR_GRAY2BGR))
    out = tmp_path / "s.csv"
    submit([str(kaggle), "--out", str(out), "--engine", str(engine)], capsys)
    assert masks(out)[9].sum() == 81
