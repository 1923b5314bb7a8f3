"""The engine of live, replay, evaluate and submit: named, chosen, or built again for this machine."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from streamseg.backends import DEFAULT
from streamseg.backends import loading as catalog
from streamseg.cli import main
from streamseg.cli.engine import load_engine
from streamseg.core.errors import EngineError, GateError, MissingExtra, UsageError
from streamseg.core.hardware import Machine, this_machine
from streamseg.engines.manifest import Manifest, read_manifest
from streamseg.engines.store import EngineStore
from tests.backends.small_engines import SPEC, rewrite, small_model, store_engine, write_engine

NOWHERE = Machine("another", ("neon",))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineStore:
    monkeypatch.setenv("STREAMSEG_ENGINES", str(tmp_path / "engines"))
    return EngineStore()


Rebuild = Callable[..., Path]


@pytest.fixture
def with_rebuild(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rebuild], None]:
    """Put a function in the place of the builder, which takes long and needs extras."""

    def put(rebuild: Rebuild) -> None:
        module = ModuleType("streamseg.export.build")
        module.rebuild = rebuild  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "streamseg.export.build", module)

    return put


def rebuilt(manifest: Manifest, store: EngineStore, *, say: Callable[[str], None]) -> Path:
    say("building")
    return store_engine(store, trained=manifest.trained, spec=manifest.spec)


def refusing(error: Exception) -> Rebuild:
    def rebuild(*_: object, **__: object) -> Path:
        raise error

    return rebuild


def test_an_engine_named_in_full_is_not_announced(
    store: EngineStore, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store_engine(store)
    for name in (folder.name, str(folder)):
        assert load_engine(name).name == folder.name
    load_engine(None)
    load_engine(DEFAULT)
    assert capsys.readouterr().err == ""


def test_an_engine_not_named_in_full_is_announced(
    store: EngineStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = store_engine(store)
    load_engine("unet-openvino")
    assert capsys.readouterr().err == f"engine: {folder.name} (fp32, input 32x48)\n"
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    write_engine(tmp_path / DEFAULT)
    load_engine(None)
    assert capsys.readouterr().err == f"engine: {folder.name} (fp32, input 32x48)\n"


def test_an_engine_that_does_not_fit_is_built_again_and_reported(
    store: EngineStore,
    capsys: pytest.CaptureFixture[str],
    with_rebuild: Callable[[Rebuild], None],
) -> None:
    folder = store_engine(store, machine=NOWHERE)
    with_rebuild(rebuilt)
    backend = load_engine(folder.name)
    assert backend.name != folder.name
    assert read_manifest(store.root / backend.name)[0].machine == replace(this_machine())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"building {folder.name} for this machine: built for a processor with neon, ")
    assert lines[1:] == ["building", f"engine: {backend.name} (fp32, input 32x48)"]


@pytest.mark.parametrize(
    "error",
    [
        GateError("the accuracy gate refuses it"),
        MissingExtra("INT8 quantisation", "nncf", "export"),
        UsageError("the weights are no longer those"),
        ImportError("no module named builder"),
    ],
)
def test_if_that_fails_the_error_has_command_and_reason(
    store: EngineStore, with_rebuild: Callable[[Rebuild], None], error: Exception
) -> None:
    folder = store_engine(store, machine=NOWHERE)
    with_rebuild(refusing(error))
    with pytest.raises(EngineError) as caught:
        load_engine(folder.name)
    message = str(caught.value)
    assert "build it with: streamseg export unet --backend openvino --precision fp32 --size 32x48" in message
    assert message.endswith(f"building it failed: {error}")
    assert caught.value.__cause__ is error


def test_a_damaged_engine_is_not_built_again(
    store: EngineStore, with_rebuild: Callable[[Rebuild], None]
) -> None:
    folder = store_engine(store)
    with_rebuild(refusing(AssertionError("nobody asked for it")))
    data = bytearray((folder / "model.bin").read_bytes())
    data[0] ^= 1
    (folder / "model.bin").write_bytes(data)
    with pytest.raises(EngineError, match="not the file that the manifest describes"):
        load_engine(folder.name)


def test_an_engine_for_several_frames_is_refused(store: EngineStore) -> None:
    folder = store_engine(store, small_model(batch=4), batch=4)
    with pytest.raises(UsageError, match=r"takes 4 frames at a time.*--batch 1"):
        load_engine(folder.name)
    assert main(["replay", "phantom:", "--engine", folder.name]) == 2


def test_the_command_line_builds_again_and_goes_on(
    store: EngineStore,
    capsys: pytest.CaptureFixture[str],
    with_rebuild: Callable[[Rebuild], None],
) -> None:
    folder = store_engine(store, machine=NOWHERE)
    with_rebuild(rebuilt)
    call = ["replay", "phantom:", "--engine", folder.name, "--max-frames", "2", "--json"]
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["engine"]["name"] != folder.name
    assert f"building {folder.name} for this machine" in err


def test_the_command_line_refuses_in_one_line(
    store: EngineStore,
    capsys: pytest.CaptureFixture[str],
    with_rebuild: Callable[[Rebuild], None],
) -> None:
    folder = store_engine(store, versions={"openvino": "2019.1"})
    with_rebuild(refusing(GateError("the accuracy gate refuses it")))
    assert main(["replay", "phantom:", "--engine", folder.name, "--max-frames", "2"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith(
        f"error: engine {folder.name} does not fit this machine (built with openvino 2019"
    )
    assert err[-1].endswith("building it failed: the accuracy gate refuses it")


@pytest.mark.slow
def test_a_real_engine_is_built_again(store: EngineStore, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    export = ["export", "unet", "--backend", "openvino", "--precision", "fp32", "--size", "32x48"]
    assert main([*export, "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert store.verify(folder) == []
    rewrite(folder, machine=NOWHERE.to_json())
    backend = load_engine(str(folder))
    assert (backend.spec.height, backend.spec.width) == (SPEC.height, SPEC.width)
    assert "UNTRAINED" in capsys.readouterr().err
    assert store.verify(store.root / backend.name) == []
