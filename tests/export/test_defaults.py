"""Parts of the command that makes the default weights; the whole needs the data and minutes."""

import argparse
import json
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamseg.backends import FakeBackend
from streamseg.backends.loading import load_folder
from streamseg.core.errors import DataError, UsageError
from streamseg.core.spec import StructureSpec
from streamseg.core.types import InputSpec, OutputCalibration
from streamseg.datasets import Dataset, RunSplit, Sample, frame_hash
from streamseg.datasets.phantoms import draw_phantoms
from streamseg.engines.checkpoint import read_checkpoint, write_checkpoint
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore
from streamseg.export import defaults
from streamseg.export.contract import ExportResult
from streamseg.export.defaults import (
    BY_JUDGES,
    Judge,
    accuracy,
    add_judgements,
    licence_of,
    read_judges,
    read_without_nerve,
    ship,
    trainings_of,
    unlike_shares,
    write_weights,
)
from streamseg.nets import build_net
from streamseg.phantom import render_still
from streamseg.segmentation.ood_detector import FEATURES, write_reference
from streamseg.training.config import TrainConfig
from streamseg.training.ood_examples import out_of_distribution_images
from tests.backends.small_engines import small_model, store_engine
from tests.datasets.files import write_dataset
from tests.nets.random_nets import NARROW as NARROW_NET
from tests.nets.random_nets import random_checkpoint

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5)
NARROW = OutputCalibration(
    1.0, 0.0, 0.5, familiar=write_reference(np.zeros(len(FEATURES)), np.eye(len(FEATURES)))
)
WIDE = OutputCalibration(
    1.0, 0.0, 0.5, familiar=write_reference(np.zeros(len(FEATURES)), 1e-9 * np.eye(len(FEATURES)))
)


def samples(count: int) -> list[Sample]:
    stills = (render_still(seed, height=64, width=96, nerve=True) for seed in range(count))
    return [Sample(str(number), one.image, one.nerve, one.vessel) for number, one in enumerate(stills)]


def own_accuracy(engine: FakeBackend, samples: list[Sample], phantoms: int) -> dict[str, Any]:
    return accuracy(engine, [(engine, samples)], phantoms)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights = {name: tensor.numpy() for name, tensor in build_net("unet").state_dict().items()}
    folder = tmp_path / "run"
    folder.mkdir()
    write_checkpoint(
        folder / "weights.safetensors", weights, net="unet", folded=False, trained=True, spec=SPEC
    )
    return folder


def test_the_shipped_checkpoint_is_folded_and_carries_its_output_calibration(
    tmp_path: Path, run: Path
) -> None:
    plain = write_weights(tmp_path / "plain.safetensors", [run, run], threshold=0.4, min_area=0.002)
    assert (plain.folded, plain.spec.judgement) == (True, None)
    assert (plain.spec.threshold, plain.spec.min_area) == (0.4, 0.002)
    mirrored = write_weights(tmp_path / "m.safetensors", [run], threshold=0.4, min_area=0.0, mirrored=True)
    assert (plain.spec.mirrored, mirrored.spec.mirrored) == (False, True)
    judged = add_judgements(tmp_path / "judged.safetensors", plain, {"nerve": NARROW})
    assert judged.spec.judgement == NARROW
    assert read_checkpoint(tmp_path / "judged.safetensors").spec == judged.spec
    for name, array in plain.weights.items():
        np.testing.assert_array_equal(judged.weights[name], array)


def test_weights_of_either_kind_of_net_and_of_both_structures_are_shipped(tmp_path: Path) -> None:
    checkpoint = random_checkpoint("lite_unet", folded=False)
    weights = {
        name: array.repeat(2, 0) if name.startswith("head") else array
        for name, array in checkpoint.weights.items()
    }
    spec = replace(checkpoint.spec, structures=("nerve", "vessel"))
    run = tmp_path / "run"
    run.mkdir()
    path = run / "weights.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "build_net", partial(build_net, width=NARROW_NET))
        write_checkpoint(path, weights, net="lite_unet", folded=False, trained=True, spec=spec)
        plain = write_weights(tmp_path / "plain.safetensors", [run], threshold=0.5, min_area=0.0)
    assert (plain.net, plain.folded, plain.spec.structures) == ("lite_unet", True, ("nerve", "vessel"))
    assert plain.weights["head.weight"].shape[0] == 2


def test_shipped_weights_say_how_they_were_trained(tmp_path: Path, run: Path) -> None:
    config = TrainConfig(restyle=0.5)
    described = {"config": asdict(config), "finished": True}
    (run / "run.json").write_text(json.dumps(described))
    lines = [{"epoch": 1, "step": 3, "seconds": 1800.0}, {"epoch": 2, "step": 6, "seconds": 900.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    RunSplit(frozenset("ab"), frozenset("c")).write(run)
    (found,) = trainings_of([run])
    assert found == {"run": "run", "images": 2, "steps": 6, "hours": 0.75, "config": asdict(config)}
    shipped = write_weights(tmp_path / "plain.safetensors", [run], 0.5, 0.0, licence="CC0")
    assert (shipped.licence, shipped.restyled) == ("CC0", True)
    (run / "log.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"log\.jsonl"):
        trainings_of([run])


def test_the_licence_notes_of_all_data_are_kept_once(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder, note in zip(folders, ("CC BY 4.0,\nnobody\n", "CC0", "CC0", None), strict=True):
        folder.mkdir()
        if note:
            (folder / "licence.txt").write_text(note)
    assert licence_of(folders) == "CC BY 4.0, nobody; CC0"


def test_runs_of_different_nets_have_no_mean(tmp_path: Path, run: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    checkpoint = random_checkpoint("lite_unet", folded=False)
    write_checkpoint(
        other / "weights.safetensors",
        checkpoint.weights,
        net="lite_unet",
        folded=False,
        trained=True,
        spec=checkpoint.spec,
    )
    data = draw_phantoms(tmp_path / "data", 6, print)
    assert len(data) == 6
    options = argparse.Namespace(
        data=tmp_path / "data", runs=[run, other], judge=[], net="unet", out=tmp_path
    )
    with pytest.raises(UsageError, match="runs of lite_unet, unet have no mean"):
        defaults.make(options)


@pytest.fixture
def phantoms(tmp_path: Path) -> tuple[Dataset, list[str]]:
    """A data set, and the hashes of its images."""
    data = draw_phantoms(tmp_path / "data", 12, print)
    return data, [frame_hash(sample.image) for sample in data]


def write_run(
    folder: Path, split: RunSplit | None, *, seed: int = 0, net: str = "unet", outputs: int = 1
) -> Path:
    """A run folder with narrow random weights."""
    folder.mkdir()
    torch.manual_seed(seed)
    state = build_net(net, width=NARROW_NET, outputs=outputs).state_dict()
    weights = {name: tensor.numpy() for name, tensor in state.items()}
    spec = SPEC if outputs == 1 else replace(SPEC, structures=("nerve", "vessel"))
    path = folder / "weights.safetensors"
    write_checkpoint(path, weights, net=net, folded=False, trained=True, spec=spec)
    if split is not None:
        split.write(folder)
    return folder


def held_back(frames: list[str], rows: range) -> RunSplit:
    return RunSplit(
        frozenset(frames) - set(frames[rows.start : rows.stop]), frozenset(frames[rows.start : rows.stop])
    )


@pytest.mark.slow
def test_weights_trained_on_all_images_are_judged_by_runs_that_held_some_back(
    tmp_path: Path, phantoms: tuple[Dataset, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real nets, INT8 engines and all; the accuracy gate lets random weights pass."""
    monkeypatch.setattr(defaults, "build_net", partial(build_net, width=NARROW_NET))
    monkeypatch.setattr(defaults, "make_recipe", partial(defaults.make_recipe, phantoms=2))
    monkeypatch.setattr(
        defaults, "fit_output_calibration", partial(defaults.fit_output_calibration, videos=1)
    )
    monkeypatch.setattr(defaults, "unlike_shares", partial(unlike_shares, videos=1))
    monkeypatch.setattr("streamseg.export.gate.MAX_DICE_LOST", 1.0)
    monkeypatch.setattr("streamseg.export.gate.MIN_ROUGH_MASK_DICE", 0.0)
    _, frames = phantoms
    run = write_run(tmp_path / "all", RunSplit(frozenset(frames), frozenset()))
    judges = [
        write_run(tmp_path / "first", held_back(frames, range(4)), seed=1),
        write_run(tmp_path / "second", held_back(frames, range(4, 7)), seed=2),
    ]
    asked: list[tuple[str, int]] = []
    answers = defaults._answers

    def noted(samples: Any, backend: Any) -> Any:
        found = answers(samples, backend)
        asked.append((backend.fingerprint, len(found)))
        return found

    monkeypatch.setattr(defaults, "_answers", noted)
    options = argparse.Namespace(
        data=tmp_path / "data",
        runs=[run],
        judge=judges,
        net="improved_unet",
        absent=[],
        without_nerve=[],
        licence="CC0, phantoms",
        size=None,
        threshold=0.5,
        min_area=0.0,
        mirror=False,
        out=tmp_path / "weights",
        recipes=tmp_path / "recipes",
        phantoms=5,
        fit_phantoms=6,
    )
    options.out.mkdir()
    options.recipes.mkdir()
    with pytest.raises(UsageError, match=r"has no licence\.txt.*--licence"):
        defaults.make(argparse.Namespace(**vars(options) | {"licence": None}))
    figures = defaults.make(options)
    manifest, _ = read_manifest(options.out / "unet-openvino-int8")
    assert manifest.accuracy == figures
    assert (figures["real_images"], figures["judges"]) == (BY_JUDGES, ["first", "second"])
    shipped = read_checkpoint(options.out / "unet.safetensors")
    assert manifest.checkpoint_sha256 == shipped.sha256
    assert manifest.licence == shipped.licence == "CC0, phantoms"
    assert RunSplit.read(options.out / "unet.safetensors") == RunSplit(frozenset(frames), frozenset())
    assert figures["training"] == [{"run": "all", "images": 12, "steps": None, "hours": None, "config": None}]
    assert shipped.spec.judgement is not None
    plain = write_weights(tmp_path / "plain.safetensors", [run], threshold=0.5, min_area=0.0)
    for name, array in plain.weights.items():
        np.testing.assert_array_equal(shipped.weights[name], array)
    for precision in ("fp32", "int8"):
        assert figures[precision]["validation"]["images"] == 7
        assert figures[precision]["phantom"]["images"] == 5
        low, high = figures[precision]["validation"]["dice_interval"]
        assert 0 <= low <= figures[precision]["validation"]["dice_mean"] <= high <= 1
        assert "unlike_training" not in figures[precision]["validation"]
    assert [count for _, count in asked] == [4, 3, 5, 4, 3, 5]
    assert len({name for name, _ in asked}) == 6  # six engines: each of three weights in two precisions
    with pytest.raises(UsageError, match=r"trained on all 12 images.*--judge RUN"):
        defaults.make(argparse.Namespace(**{**vars(options), "judge": []}))
    with pytest.raises(UsageError, match=r"trained on all 12 images.*--judge RUN"):
        defaults.make(argparse.Namespace(**{**vars(options), "runs": [], "judge": [], "net": "unet"}))


def test_judges_that_cannot_answer_are_refused(
    tmp_path: Path, phantoms: tuple[Dataset, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "build_net", partial(build_net, width=NARROW_NET))
    data, frames = phantoms
    some = held_back(frames, range(4))
    refused = {
        "no split.json": write_run(tmp_path / "a", None),
        "a run of lite_unet; give runs of unet": write_run(tmp_path / "b", some, net="lite_unet"),
        "another data set: 1 of its images are not in the data given, 2 of the data's": write_run(
            tmp_path / "c", RunSplit(frozenset(frames[6:]) | {"a" * 64}, frozenset(frames[2:6]))
        ),
        "held no image back": write_run(tmp_path / "d", RunSplit(frozenset(frames), frozenset())),
    }
    for message, run in refused.items():
        with pytest.raises(UsageError, match=message):
            Judge.read(run, "unet", data, frames)
    good = write_run(tmp_path / "e", some)
    assert [sample.name for sample in Judge.read(good, "unet", data, frames).held_back] == [
        sample.name for sample in data[:4]
    ]
    twice = write_run(tmp_path / "f", held_back(frames, range(3, 6)))
    with pytest.raises(UsageError, match="both held back 1 images, which would count twice"):
        read_judges([good, twice], "unet", data, frames)
    both = Judge.read(write_run(tmp_path / "g", some, outputs=2), "unet", data, frames)
    with pytest.raises(UsageError, match="outlines nerve, vessel, the weights to ship nerve"):
        both.write(tmp_path / "judge.safetensors", SPEC)


def test_the_shipped_engine_is_portable_and_keeps_its_figures(tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "store")
    folder = store_engine(store, small_model(), calibration={"folder": "/home/me/data", "sha256": "0" * 64})
    built = ExportResult(folder, read_manifest(folder)[0], True)
    for figures in ({"fp32": 1}, {"fp32": 2}):  # the second one takes the first one's place
        ship(built, tmp_path / "shipped", figures)
        manifest, _ = read_manifest(tmp_path / "shipped")
        assert (manifest.portable, manifest.source, manifest.accuracy) == (True, "unet", figures)
        assert manifest.passed
        assert manifest.calibration["folder"] is None  # nobody's home is published
        assert store.verify(tmp_path / "shipped") == []
    assert load_folder(tmp_path / "shipped").spec == built.manifest.spec


def test_figures_count_the_states_and_calibration() -> None:
    found = own_accuracy(FakeBackend(SPEC, 1.0), samples(2), phantoms=0)
    assert set(found) == {"validation"}
    figures = found["validation"]
    assert figures["images"] == 2
    assert figures["sensitivity"] == 1
    assert figures["specificity"] is None
    assert figures["confidence_mean"] - figures["dice_mean"] == pytest.approx(
        figures["confidence_ece"], abs=1e-3
    )
    assert figures["unlike_training"] == 0


def test_other_structures_have_figures_of_their_own() -> None:
    both = replace(SPEC, structures=("nerve", "vessel"))
    labels = samples(3)
    labels[0] = replace(labels[0], vessel=None)
    planes = np.stack([np.ones((32, 48), np.float32), np.zeros((32, 48), np.float32)])
    found = own_accuracy(FakeBackend(both, planes), labels, phantoms=4)
    vessel = found.pop("structures")["vessel"]
    assert found == own_accuracy(FakeBackend(SPEC, 1.0), labels, phantoms=4)
    assert vessel["validation"]["images"] == 2
    assert vessel["phantom"]["images"] == 4
    assert set(vessel) <= {"validation", "phantom", "phantom_with_vessel", "phantom_without_vessel"}
    assert vessel["phantom"]["specificity"] in (None, 1.0)
    assert "unlike_training" not in vessel["validation"]


def test_shipped_weights_keep_their_planes_and_the_limits_of_each(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {name: tensor.numpy() for name, tensor in build_net("unet", outputs=2).state_dict().items()}
    limits = {"vessel": StructureSpec(0.3, 0.002, NARROW)}
    both = replace(SPEC, structures=("nerve", "vessel"), others=limits)
    write_checkpoint(
        tmp_path / "weights.safetensors", weights, net="unet", folded=False, trained=True, spec=both
    )
    plain = write_weights(tmp_path / "plain.safetensors", [tmp_path], threshold=0.4, min_area=0.002)
    assert plain.spec.structure("vessel") == StructureSpec(0.3, 0.002)
    judged = add_judgements(tmp_path / "judged.safetensors", plain, {"nerve": NARROW, "vessel": WIDE})
    assert judged.weights["head.weight"].shape[0] == 2
    assert (judged.spec.judgement, judged.spec.structure("vessel").judgement) == (NARROW, WIDE)
    assert judged.spec.structure("vessel").threshold == 0.3


def test_shares_of_images_called_unlike() -> None:
    for judgement, share in ((NARROW, 1.0), (WIDE, 0.0)):
        spec = InputSpec(32, 48, 0.25, 0.25, 0.5, judgement=judgement)
        shares = unlike_shares(spec, samples(3), videos=1)
        assert shares["phantom video"] == shares["noise"] == share
        assert shares["colour Doppler"] > 0.5  # colour is told apart whatever the ellipsoid says


def test_out_of_distribution_images_are_the_same_every_time() -> None:
    images = [sample.image for sample in samples(2)]
    first, second = out_of_distribution_images(images), out_of_distribution_images(images)
    for kind, images in first.items():
        assert images, kind
        for one, other in zip(images, second[kind], strict=True):
            assert one.dtype == np.uint8
            assert one.ndim in (2, 3)
            np.testing.assert_array_equal(one, other)


def test_averaged_runs_get_statistics_of_their_own(tmp_path: Path, run: Path) -> None:
    """The average of two runs' variances is not that of what the averaged weights compute."""
    other = Path(shutil.copytree(run, tmp_path / "other"))
    found = read_checkpoint(run / "weights.safetensors")
    changed = {
        name: array * np.float32(9) if name.endswith("running_var") else array
        for name, array in found.weights.items()
    }
    write_checkpoint(
        other / "weights.safetensors", changed, net="unet", folded=False, trained=True, spec=SPEC
    )
    data = samples(3)
    arguments = {"threshold": 0.4, "min_area": 0.002}
    plain = write_weights(tmp_path / "plain.safetensors", [run, other], **arguments)
    measured = write_weights(tmp_path / "measured.safetensors", [run, other], **arguments, training=data)
    # both runs have the same weights: averaged or not, what they compute has one variance
    alone = write_weights(tmp_path / "alone.safetensors", [other, run], **arguments, training=data)
    names = [
        name for name in plain.weights if not np.array_equal(plain.weights[name], measured.weights[name])
    ]
    assert names
    for name in plain.weights:
        np.testing.assert_allclose(measured.weights[name], alone.weights[name], rtol=1e-5, atol=1e-6)
    same = write_weights(tmp_path / "same.safetensors", [run, run], **arguments, training=data)
    kept = write_weights(tmp_path / "kept.safetensors", [run, run], **arguments)
    for name, array in same.weights.items():  # one run, or frozen statistics: they are the right ones
        np.testing.assert_array_equal(array, kept.weights[name])


def test_frames_without_nerve_must_have_none_and_be_new_to_the_net(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, nothing = rng.integers(0, 255, (32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    nerve = nothing.copy()
    nerve[8:16, 8:16] = 255
    empty = write_dataset(tmp_path / "empty", {"a": (image, nothing)})
    labelled = write_dataset(tmp_path / "labelled", {"b": (255 - image, nerve)})
    assert [sample.name for sample in read_without_nerve([empty], [labelled])] == ["a"]
    with pytest.raises(DataError, match="labelled nerve"):
        read_without_nerve([labelled], [])
    with pytest.raises(DataError, match="trained on"):
        read_without_nerve([empty], [empty])
