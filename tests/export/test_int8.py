import json

import numpy as np
import openvino as ov
import pytest
import torch

from streamseg.export.int8 import Recipe, frame_hash, quantise
from streamseg.export.openvino import build_model
from streamseg.nets import build_net, fold
from streamseg.preprocess import to_tensor
from streamseg.types import InputSpec

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return {k: v.numpy() for k, v in fold(build_net("unet")).state_dict().items()}


def images(count=3):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 96), dtype=np.uint8) for _ in range(count)]


@pytest.mark.filterwarnings("ignore")  # of nncf's own imports
def test_the_same_recipe_gives_the_same_engine_and_nearly_the_same_answers(weights):
    first, second = (quantise(build_model(weights, SPEC), images(), SPEC, preset="mixed") for _ in range(2))
    tensor = to_tensor(images()[0], SPEC)
    answers = [ov.compile_model(m, "CPU")(tensor)[0] for m in (first, second, build_model(weights, SPEC))]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert 0 < np.abs(answers[0] - answers[2]).max() < 0.05
    kinds = {node.get_type_name() for node in first.get_ops()}
    assert "FakeQuantize" in kinds
    stored = [n.get_output_element_type(0) for n in first.get_ops() if n.get_type_name() == "Constant"]
    assert stored.count(ov.Type.i8) >= 18


def test_a_recipe_holds_hashes_and_no_pixels(tmp_path):
    frames = images()
    hashes = tuple(frame_hash(frame) for frame in frames)
    Recipe("phantom", "mixed", 0, hashes).write(tmp_path / "recipe.json")
    read = json.loads((tmp_path / "recipe.json").read_text())
    assert read["frames"] == list(hashes)
    assert len(set(hashes)) == 3
    assert frame_hash(frames[0]) != frame_hash(frames[0].T.copy())
