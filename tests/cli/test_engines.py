"""``streamseg engines``: lists, verifies and prunes a store of real engines."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg.backends import DEFAULT
from streamseg.backends import loading as catalog
from streamseg.cli import main
from streamseg.core.hardware import Machine
from streamseg.engines.manifest import read_manifest
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import rewrite, store_engine, write_engine

NOWHERE = Machine("another", ("neon",))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineStore:
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "engines"))
    return EngineStore()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["engines", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, *arguments, "--json")
    assert out.count("\n") == 1
    answer: dict[str, Any] = json.loads(out)
    return code, answer


def damage(folder: Path) -> None:
    data = bytearray((folder / "model.bin").read_bytes())
    data[-1] ^= 128
    (folder / "model.bin").write_bytes(data)


def test_an_empty_store_says_so(store: EngineStore, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    assert f"no engines in {store.root}" in out
    assert f"live and replay take {DEFAULT} unless" in out
    code, out, err = run(capsys, "verify")
    assert (code, err) == (0, "")
    assert f"no engines in {store.root}" in out
    assert re.search(rf"^good +{DEFAULT}$", out, re.MULTILINE)
    code, out, err = run(capsys, "prune")
    assert (code, out, err) == (0, f"nothing to remove in {store.root}\n", "")
    assert run_json(capsys, "list") == (0, {"store": str(store.root), "engines": [], "default": DEFAULT})
    assert run_json(capsys, "verify")[1]["good"] is True
    assert run_json(capsys, "prune")[1]["removed"] == []
    assert not store.root.exists()


def test_the_list_says_what_each_engine_is(store: EngineStore, capsys: pytest.CaptureFixture[str]) -> None:
    good = store_engine(store, precision_found={"int8": 0.8, "fp32": 0.2}, built={"date": "2026-11-22"})
    random = store_engine(store, trained=False, speed={"ms": 2.34567})
    failed = store_engine(store, precision="int8", gate={"passed": False})
    elsewhere = store_engine(store, machine=NOWHERE)
    broken = store_engine(store, precision="bf16")
    (broken / "manifest.json").write_text("{")
    code, out, _ = run(capsys, "list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith(" ")}
    assert {folder.name for folder in (good, random, failed, elsewhere, broken)} < set(lines)
    assert re.search(r"int8 80 %, fp32 20 % +passed +1\.0 +0\.50 +yes +0\.0 +2026-11-22", lines[good.name])
    assert re.search(r"UNTRAINED +2\.3 +yes", lines[random.name])
    assert "FAILED" in lines[failed.name]
    assert re.search(r"passed +1\.0 +0\.50 +no", lines[elsewhere.name])
    assert "DAMAGED" in lines[broken.name]
    assert f"{elsewhere.name}: built for a processor with neon" in out
    assert f"{broken.name}: manifest " in out
    rows = {row["name"]: row for row in run_json(capsys, "list")[1]["engines"]}
    assert rows[good.name]["precision_found"] == {"int8": 0.8, "fp32": 0.2}
    assert (rows[random.name]["trained"], rows[failed.name]["passed"]) == (False, False)
    assert rows[elsewhere.name]["misfits"][0].startswith("built for a processor with neon")
    assert "damaged" in rows[broken.name]["error"]


def test_the_list_says_which_engine_runs_by_default(
    store: EngineStore, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = read_manifest(catalog.WEIGHTS / DEFAULT)[0]
    same = {"net": shipped.net, "spec": shipped.spec, "checkpoint_sha256": shipped.checkpoint_sha256}
    slow = store_engine(store, **same, speed={"ratio": 1.2})
    assert run_json(capsys, "list")[1]["default"] == DEFAULT
    fast = store_engine(store, **same, speed={"ratio": 0.8}, precision="int8")
    assert run_json(capsys, "list")[1]["default"] == fast.name
    assert f"live and replay take {fast.name} unless" in run(capsys, "list")[1]
    assert slow.exists()


def test_verify_names_each_damaged_engine(store: EngineStore, capsys: pytest.CaptureFixture[str]) -> None:
    good, damaged = store_engine(store), store_engine(store, precision="int8")
    elsewhere = store_engine(store, machine=NOWHERE)
    damage(damaged)
    code, out, err = run(capsys, "verify")
    assert code == 1
    assert re.search(rf"^good +{good.name}$", out, re.MULTILINE)
    assert re.search(rf"^DAMAGED +{damaged.name}: model.bin is damaged or another file", out, re.MULTILINE)
    assert f"{elsewhere.name} (but does not fit this machine: built for a processor with neon" in out
    engines = 3 + len(catalog.shipped_nets())
    assert err == (
        f"error: 1 of {engines} engines damaged: {damaged.name}; export them again, or remove them with "
        "'streamseg engines prune'\n"
    )
    code, answer = run_json(capsys, "verify")
    assert (code, answer["good"]) == (1, False)
    assert [one["name"] for one in answer["engines"] if one["problems"]] == [damaged.name]
    assert run(capsys, "verify", good.name, elsewhere.name)[0] == 0
    assert run(capsys, "verify", str(good), DEFAULT)[0] == 0
    assert run(capsys, "verify", damaged.name)[0] == 1


def test_verify_checks_the_shipped_engine_too(
    store: EngineStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    (tmp_path / DEFAULT).mkdir()
    code, out, _ = run(capsys, "verify")
    assert code == 1
    assert f"DAMAGED  {DEFAULT}: cannot read" in out


def test_verify_checks_every_shipped_engine(
    store: EngineStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    (other,) = {"improved_unet", "lite_unet"} - {catalog.DEFAULT_NET}
    (tmp_path / f"{other}.safetensors").write_bytes(b"")
    for net in (catalog.DEFAULT_NET, other):
        rewrite(write_engine(tmp_path / f"{net}-openvino-int8"), name=f"{net}-openvino-int8")
    code, out, _ = run(capsys, "verify")
    assert code == 0
    assert f"no engines in {store.root}" in out
    for net in (catalog.DEFAULT_NET, other):
        assert re.search(rf"^good +{net}-openvino-int8$", out, re.MULTILINE)
    damage(tmp_path / f"{other}-openvino-int8")
    code, out, _ = run(capsys, "verify", f"{other}-openvino-int8")
    assert code == 1
    assert f"DAMAGED  {other}-openvino-int8" in out


def test_verify_of_an_unknown_name_is_a_wrong_call(
    store: EngineStore, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "verify", "nonesuch")
    assert (code, out) == (2, "")
    assert err == (f"error: no engine in {store.root} is called 'nonesuch'; see 'streamseg engines list'\n")


def test_prune_removes_bad_engines(store: EngineStore, capsys: pytest.CaptureFixture[str]) -> None:
    good, damaged = store_engine(store), store_engine(store, precision="int8")
    elsewhere = store_engine(store, machine=NOWHERE)
    mine = store_engine(store, machine=replace(NOWHERE, features=("sve",)))
    (mine / "notes.txt").write_text("mine")
    (store.root / "README.md").write_text("mine")
    damage(damaged)
    code, out, _ = run(capsys, "prune", "--dry-run")
    assert code == 0
    assert f"would remove {damaged.name}: damaged: model.bin is damaged" in out
    assert f"would remove {elsewhere.name}: does not fit this machine: built for" in out
    assert f"kept {mine.name}: " in out
    assert "MB would be freed" in out
    assert damaged.exists()
    code, answer = run_json(capsys, "prune")
    assert code == 0
    assert {one["name"] for one in answer["removed"]} == {damaged.name, elsewhere.name}
    assert answer["bytes"] == sum(one["bytes"] for one in answer["removed"]) > 0
    assert [one["name"] for one in answer["kept"]] == [mine.name]
    assert sorted(path.name for path in store.root.iterdir() if not path.name.startswith(".")) == sorted(
        ["README.md", good.name, mine.name]
    )
    assert "MB freed" in run(capsys, "prune", "--all")[1]
    assert not good.exists()
    assert (mine / "notes.txt").exists()
    assert (store.root / "README.md").exists()


def test_a_store_that_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "file"))
    for command in ("list", "verify", "prune"):
        code, out, err = run(capsys, command)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "STREAMSEG_ENGINES" in err


def test_no_command_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "Missing command" in err
