"""``streamseg train`` from a folder of images to weights that load."""

import numpy as np
import pytest
from PIL import Image

from streamseg.checkpoint import read_checkpoint
from streamseg.cli import main


@pytest.fixture
def data(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(4):
        image = generator.integers(0, 256, (40, 60), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"data/images/{number}.png")
        Image.fromarray(np.where(image > 128, 255, 0).astype(np.uint8)).save(
            tmp_path / f"data/masks/{number}.png"
        )
    return tmp_path / "data"


def test_trains_resumes_and_refuses_to_start_over(data, tmp_path, capsys):
    run = tmp_path / "run"
    call = ["train", str(data), "--out", str(run), "--size", "32x48", "--epochs", "1", "--batch", "2"]
    call += ["--validation", "0.25", "--phantom", "2", "--phantom-batch", "1"]
    assert main(call) == 0
    output = capsys.readouterr()
    assert output.out.strip() == str(run / "weights.safetensors")
    assert "epoch 1/1" in output.err
    before = (run / "weights.safetensors").read_bytes()
    assert read_checkpoint(run / "weights.safetensors").spec.height == 32

    assert main(call) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0
    assert (run / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--size", "large"], "is not HxW"),
        (["--net", "resnet"], "no net is called"),
        (["--validation", "0"], "empty"),
    ],
)
def test_bad_options_are_one_line(data, tmp_path, capsys, option, message):
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *option]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
