"""``streamseg export``: a judged engine in the store, what is said of it, and refusals."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamseg.cli import main
from streamseg.core.errors import MissingExtra
from streamseg.engines.maintenance import leftovers
from streamseg.engines.store import ROOT_VARIABLE, EngineStore
from streamseg.export.recipe import Draw, Recipe
from tests.export.built_engines import BuiltEngines
from tests.export.test_build import black_data
from tests.optional import needs

needs("torch", "nncf")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["export", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.fixture
def store(built_engines: BuiltEngines, monkeypatch: pytest.MonkeyPatch) -> EngineStore:
    """A store with an engine in FP32 and one in INT8, which the command built."""
    monkeypatch.setenv(ROOT_VARIABLE, str(built_engines.store.root))
    return built_engines.store


def test_the_engine_s_manifest_is_shown_and_the_second_call_finds_it(
    capsys: pytest.CaptureFixture[str], store: EngineStore, built_engines: BuiltEngines
) -> None:
    built = built_engines["fp32"]
    assert built.fresh
    assert "building improved_unet for openvino, fp32, 64x96" in built.said
    asked = ("improved_unet", "--precision", "fp32", "--size", "64x96", "--recipe", str(built_engines.recipe))
    code, out, err = run(capsys, *asked)
    assert code == 0
    assert "building" not in err
    (entry,) = (entry for entry in store.entries() if "fp32" in entry.name)
    lines = dict(line.split(":", 1) for line in out.splitlines())
    assert lines["engine"].strip() == entry.name
    assert lines["folder"].strip() == str(entry.path)
    assert "asked for fp32, computes in" in lines["precision"]
    assert "passed on 8 frames (phantom)" in lines["gate"]

    code, out, err = run(capsys, *asked, "--json")
    found: dict[str, Any] = json.loads(out)
    assert (code, found["fresh"], found["folder"]) == (0, False, str(entry.path))
    assert (found["precision"], found["trained"], found["batch"]) == ("fp32", True, 1)
    assert found["gate"]["passed"] is True
    assert found["spec"]["height"] == 64

    assert main(["engines", "verify"]) == 0
    assert main(["doctor"]) == 0


def test_the_new_engine_runs_by_the_beginning_of_its_name(store: EngineStore, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    asked = ["phantom:?frames=2", "--engine", "improved_unet-openvino-fp32-64x96", "--records", str(out)]
    assert main(["replay", *asked]) == 0
    header = json.loads(out.read_text().splitlines()[0])
    assert "improved_unet-openvino-fp32-64x96-b1" in json.dumps(header)


def test_a_broken_calibration_is_refused_and_leaves_nothing_but_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, broken = black_data(tmp_path / "data")
    broken.write(tmp_path / "broken.json")
    store = EngineStore(tmp_path / "engines")
    monkeypatch.setenv(ROOT_VARIABLE, str(store.root))
    code, out, err = run(
        capsys,
        *("improved_unet", "--precision", "int8", "--size", "64x96"),
        *("--data", str(data), "--recipe", str(tmp_path / "broken.json")),
    )
    assert (code, out) == (1, "")
    assert "error: the accuracy gate refuses improved_unet in int8" in err
    assert re.search(r"Dice lost .* at most 0\.01.*--precision fp32", err)
    assert store.entries() == []
    assert not leftovers(store)


def test_without_torch_the_extra_is_named_and_peers_start(tmp_path: Path) -> None:
    recipe = tmp_path / "few.json"
    Recipe("few", "phantom", 0, "mixed", Draw((), 1, 0), Draw((), 1, 1)).write(recipe)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from streamseg.cli import main\n"
        f"print(main(['export', 'improved_unet', '--size', '64x96', '--recipe', {str(recipe)!r}]))\n"
        "print(main(['bench', 'peers', '--source', 'no-such-file.mp4']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, ROOT_VARIABLE: str(tmp_path / "engines")},
    )
    exported, peers = done.stderr.strip().splitlines()
    assert exported == f"error: {MissingExtra('judging an engine', 'torch', 'export')}"
    assert "no-such-file.mp4" in peers
    assert done.stdout.split() == ["2", "2"]
    assert not EngineStore(tmp_path / "engines").entries()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet"], "neither a net"),
        (["unet", "--backend", "caffe"], "choose one of openvino"),
        (["unet", "--precision", "int4"], "choose one of fp32"),
        (["unet", "--size", "192"], "192x224"),
        (["unet", "--size", "100x100"], "use 112x112"),
        (["unet", "--batch", "0"], "see 'streamseg export --help'"),
        ([], "see 'streamseg export --help'"),
    ],
)
def test_a_wrong_call_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
