"""The figures of the model card, measured with a small engine, and the tables that are made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy, flicker, model_card, readme
from benchmarks.accuracy import EngineAccuracy, PartAccuracy, StructureAccuracy, VideoAccuracy
from streamseg.backends import FakeBackend, load_backend
from streamseg.backends.loading import DEFAULT, DEFAULT_NET, WEIGHTS, shipped_engine, shipped_nets
from streamseg.benchmark.rows.run import BUSY, decode
from streamseg.datasets import RunSplit, frame_hash, open_dataset
from streamseg.engines.manifest import read_manifest
from streamseg.export.choose_default import choose
from tests.backends.small_engines import SPEC, write_engine
from tests.datasets.files import write_dataset, write_labelled

RUN_FIGURES: dict[str, Any] = {
    "images": 41,
    "dice_mean": 0.7,
    "dice_median": 0.8,
    "iou_mean": 0.6,
    "sensitivity": 1.0,
    "specificity": None,
    "dice_interval": [0.6, 0.8],
}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path / "engine")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six labelled images of the own machine, three of another one, four without nerve of two people."""
    write_labelled(tmp_path / "data" / "usgra-seg")
    write_labelled(tmp_path / "data" / "kaggle-positives", 3)
    rng = np.random.default_rng(0)
    nothing = np.zeros((40, 60), np.uint8)
    names = ("S1_a", "S1_b", "S2_a", "S2_b")
    stills = {name: (rng.integers(0, 100, (40, 60), np.uint8), nothing) for name in names}
    write_dataset(tmp_path / "data" / "muscle", stills)
    return tmp_path / "data"


def measured(engine: Path, data: Path, out: Path, *parts: str) -> EngineAccuracy:
    assert accuracy.main([str(engine), "--data", str(data), "--out", str(out), "--only", *parts]) == 0
    (found,) = accuracy.newest(out).values()
    return found[1]


def test_parts_are_measured_and_kept(engine: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    found = measured(engine, data, out, "own", "other")
    assert (found.engine["name"], found.net, found.input) == ("small", "unet", "32x48")
    assert {name: part.images for name, part in found.parts.items()} == {"own": 6, "other": 3}
    own = found.parts["own"].structures["nerve"]
    assert own.images == 6
    assert own.dice_interval is not None
    assert own.dice_mean is not None
    assert own.dice_interval[0] <= own.dice_mean <= own.dice_interval[1]
    assert found.parts["own"].trained_on is None
    found = measured(engine, data, out, "muscle")  # the others stay
    assert list(found.parts) == ["own", "other", "muscle"]
    assert (found.parts["muscle"].images, found.parts["muscle"].subjects) == (4, 2)
    assert found.parts["muscle"].structures["nerve"].specificity is not None


def test_neighbours_of_one_person_are_thinned_out(engine: Path, data: Path, tmp_path: Path) -> None:
    (data / "kaggle-positives" / "subjects.csv").write_text("name,subject\n0,a\n1,a\n2,b\n")
    asked = [str(engine), "--data", str(data), "--out", str(tmp_path / "out"), "--only", "other"]
    assert accuracy.main([*asked, "--each", "1"]) == 0
    ((_, found),) = accuracy.newest(tmp_path / "out").values()
    assert (found.parts["other"].images, found.parts["other"].subjects) == (2, 2)
    assert accuracy.spread(range(100), 5) == [0, 25, 50, 74, 99]


def test_only_images_that_were_held_back_count(engine: Path, data: Path, tmp_path: Path) -> None:
    frames = [frame_hash(sample.image) for sample in open_dataset(data / "usgra-seg")]
    run = tmp_path / "run"
    run.mkdir()
    RunSplit(frozenset(frames[:4]), frozenset(frames[4:])).write(run)
    manifest = replace(read_manifest(engine)[0], source=str(run / "weights.safetensors"))
    manifest.write(engine)
    part = measured(engine, data, tmp_path / "some", "own").parts["own"]
    assert (part.images, part.trained_on, part.from_manifest) == (2, 0, False)
    RunSplit(frozenset(frames), frozenset()).write(run)
    stated = {"int8": {"validation": RUN_FIGURES, "structures": {"vessel": {"validation": RUN_FIGURES}}}}
    replace(manifest, accuracy=stated).write(engine)
    part = measured(engine, data, tmp_path / "none", "own").parts["own"]
    assert (part.images, part.from_manifest) == (41, True)
    assert part.structures["vessel"].dice_interval == (0.6, 0.8)


def test_what_the_manifest_states_is_not_measured_again(engine: Path, data: Path, tmp_path: Path) -> None:
    stated = {"int8": {"validation": RUN_FIGURES, "phantom": RUN_FIGURES | {"images": 400}}}
    replace(read_manifest(engine)[0], accuracy=stated).write(engine)
    found = measured(engine, data, tmp_path / "out", "own", "phantoms", "--stated")
    assert {name: part.images for name, part in found.parts.items()} == {"own": 41, "phantoms": 400}
    assert found.parts["phantoms"].from_manifest


@pytest.mark.parametrize("same", [True, False])
def test_the_cost_is_a_ratio_to_the_reference(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "compare_speed", lambda *_: (0.4, 0.3, 0.5))
    backend = load_backend(shipped_engine(accuracy.REFERENCE)) if same else FakeBackend(SPEC, 0.5)
    found = accuracy.measure_cost(backend)
    assert (found.ratio, found.ratio_interval) == ((1.0, None) if same else (0.4, (0.3, 0.5)))
    assert (found.ms is None) == ((found.others_share or 0.0) > BUSY)


def test_without_data_nothing_is_written(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(engine), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--only", "own"]
    assert accuracy.main(asked) == 1
    assert "has none of usgra-seg, kaggle-positives, muscle, clips" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_videos_are_those_of_the_flicker_benchmark(
    engine: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = flicker.phantom("clips", 1, 0.2, nerve=False), flicker.phantom("resting", 1, 0.2, nerve=True)
    monkeypatch.setattr(flicker, "sources", lambda *_: iter(made))
    (data / "clips").mkdir()
    found = measured(engine, data, tmp_path / "out", "video").video
    assert list(found) == ["clips frames", "clips live", "resting frames", "resting live"]
    assert found["clips frames"].frames == 6
    assert found["clips frames"].outlined is not None
    assert found["resting live"].dice_mean is not None


def complete(net: str, own: float, other: float, ratio: float) -> EngineAccuracy:
    """A result of a shipped engine with every part."""
    sha256 = read_manifest(shipped_engine(net))[1]
    nerve = StructureAccuracy(images=41, dice_mean=own, dice_interval=(own - 0.1, own + 0.1), sensitivity=1.0)
    absent = StructureAccuracy(images=4, dice_mean=0.25, specificity=0.25, specificity_interval=(0.0, 0.75))
    return EngineAccuracy(
        date="2026-11-30",
        machine={"processor": "AMD EPYC", "cores": 2},
        engine={"name": shipped_engine(net).name, "sha256": sha256},
        net=net,
        input="192x224",
        structures=["nerve"],
        parts={
            "own": PartAccuracy(images=41, structures={"nerve": nerve}, unlike=0, unlike_cost=0.0),
            "other": PartAccuracy(
                images=41, subjects=3, structures={"nerve": replace(nerve, dice_mean=other)}, unlike=2
            ),
            "muscle": PartAccuracy(
                images=4, subjects=2, structures={"nerve": absent}, unlike=1, unlike_cost=-0.25
            ),
            "phantoms": PartAccuracy(images=400, structures={"nerve": replace(nerve, specificity=0.9)}),
        },
        video={"clips frames": VideoAccuracy(frames=100, outlined=0.41, switches_per_s=3.0)},
        cost=accuracy.Cost(against="x", ratio=ratio, ratio_interval=(ratio, ratio), ms=5.0, others_share=0.5),
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of all engines that ship."""
    folder = tmp_path / "results"
    folder.mkdir()
    for net in shipped_nets():
        text = json.dumps(complete(net, 0.6, 0.3, 1.0).to_json())
        (folder / f"2026-11-30-epyc-2-cores-accuracy-{shipped_engine(net).name}.json").write_text(text)
    return folder


def test_a_result_is_read_as_it_was_written() -> None:
    made = complete(DEFAULT_NET, 0.6, 0.3, 1.0)
    assert decode(EngineAccuracy, json.loads(json.dumps(made.to_json()))) == made


def test_tables_are_written_from_the_newest_result(results: Path, tmp_path: Path) -> None:
    document = tmp_path / "docs" / "card.md"
    document.parent.mkdir()
    marks = [f"<!-- accuracy {name} -->\nstale\n<!-- /accuracy -->" for name in model_card.SELECTIONS]
    document.write_text("\n\n".join(marks))
    asked = ["--readme", str(document), "--results", str(results)]
    assert readme.main([*asked, "--check"]) == 1
    assert readme.main(asked) == 0
    assert readme.main([*asked, "--check"]) == 0
    text = document.read_text()
    assert "stale" not in text
    assert "0.600 (0.50 to 0.70)" in text
    assert "75 % (25 to 100)" in text, "outlined where there is no nerve"
    assert "| the same, as displayed | 50 %" in text
    assert "41 %" in text
    assert "while other processes took 50 % of the processor" in " ".join(text.split())
    assert f"(../results/2026-11-30-epyc-2-cores-accuracy-{DEFAULT}.json)" in text
    newer = replace(complete(DEFAULT_NET, 0.55, 0.3, 1.0), date="2026-12-01")
    (results / f"2026-12-01-epyc-2-cores-accuracy-{DEFAULT}.json").write_text(json.dumps(newer.to_json()))
    assert readme.main(asked) == 0
    assert "0.550 (0.45 to 0.65)" in document.read_text()


def test_a_result_of_another_engine_is_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "card.md"
    document.write_text("<!-- accuracy own -->\n<!-- /accuracy -->")
    (path,) = results.glob(f"*-{DEFAULT}.json")
    other = complete(DEFAULT_NET, 0.6, 0.3, 1.0).to_json()
    path.write_text(json.dumps(other | {"engine": other["engine"] | {"sha256": "0" * 64}}))
    assert readme.main(["--readme", str(document), "--results", str(results)]) == 1
    assert f"python -m benchmarks.accuracy {DEFAULT}" in capsys.readouterr().err
    path.write_text("[]")
    assert readme.main(["--readme", str(document), "--results", str(results)]) == 1
    assert "is no result of benchmarks.accuracy" in capsys.readouterr().err
    document.write_text("<!-- accuracy weather -->\n<!-- /accuracy -->")
    assert readme.main(["--readme", str(document), "--results", str(results)]) == 1
    assert "'weather'" in capsys.readouterr().err


def test_the_rule_is_that_of_choose_default(results: Path) -> None:
    nets = model_card.read_nets(results)
    assert [net.name for net in nets] == shipped_nets()
    candidates = [one for net in nets if (one := net.candidate()) is not None]
    assert len(candidates) == len(nets)
    assert candidates[0].outlined == 0.41
    said = " ".join(model_card.default_lines(nets))
    if len(nets) > 1:
        assert choose(candidates)[1] in said
    other = replace(nets[0], name="unet", measured=replace(nets[0].measured, cost=accuracy.Cost()))
    assert "not measured yet" in " ".join(model_card.default_lines([nets[0], other]))
    both = [nets[0], replace(nets[0], name="lite_unet", measured=complete(DEFAULT_NET, 0.7, 0.5, 0.4))]
    assert "By this rule the default is" in " ".join(model_card.default_lines(both))


def test_the_card_asks_for_every_table() -> None:
    card = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    for selection in model_card.SELECTIONS.keys() - {"short"}:
        assert f"<!-- accuracy {selection} -->" in card
    assert card.count(".png") <= 4
