"""The manifest's seal, and what is read back."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.core.errors import EngineError
from streamseg.core.hardware import Machine
from streamseg.engines.manifest import SEAL, read_manifest, read_unchecked, seal_of
from tests.backends.small_engines import DESCRIBED, SPEC

MANIFEST = replace(
    DESCRIBED,
    files={"model.bin": "1" * 64},
    batch=2,
    machine=Machine("p", ("avx2",), "g", "9.0", "580"),
    gate={"passed": True, "dice": 0.5},
    speed={"ms": 1.5, "ratio": 0.1 + 0.2},
)


def test_it_reads_back_what_was_written(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    assert read_manifest(tmp_path)[0] == MANIFEST
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert values[SEAL] == seal_of(values)


@given(
    numbers=st.dictionaries(
        st.text(max_size=5), st.floats(allow_nan=False) | st.integers() | st.text(), max_size=4
    )
)
def test_the_seal_holds_for_whatever_was_measured(
    tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, object]
) -> None:
    folder = tmp_path_factory.mktemp("e")
    replace(MANIFEST, accuracy=numbers, precision_found={"int8": 1}).write(folder)
    assert read_unchecked(folder).sealed


@pytest.mark.parametrize(
    "key", [*(name for name in MANIFEST.to_json() if name not in ("format", SEAL)), "more"]
)
def test_the_seal_covers_every_value(tmp_path: Path, key: str) -> None:
    MANIFEST.write(tmp_path)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    other = {"precision": "fp32", "batch": 3, "spec": SPEC.to_json() | {"std": 0.5}, "machine": None}
    was = values.get(key)
    if isinstance(was, bool):
        values[key] = not was
    else:
        values[key] = other.get(key, {"a": 1.0} if isinstance(was, dict) else "changed")
    if key in ("versions", "files"):
        values[key] = {"a": "b"}
    path.write_text(json.dumps(values))
    assert not read_unchecked(tmp_path).sealed
    with pytest.raises(EngineError, match="was altered after it was written"):
        read_manifest(tmp_path)


def test_another_layout_of_the_same_values_is_the_same_manifest(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_manifest(tmp_path)[0] == MANIFEST


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 0},
        {"batch": "1"},
        {"batch": True},
        {"batch": 10**9},
        {"speed": {"ratio": 10**400}},
        {"gate": {"dice": -(10**400)}},
        {"precision_found": {"fp32": 10**400}},
        {"precision_found": {"fp32": -0.5}},
        {"spec": SPEC.to_json() | {"height": 10**400}},
        {"spec": SPEC.to_json() | {"height": 10**9}},
        {"spec": SPEC.to_json() | {"height": 64.5}},
        {"spec": SPEC.to_json() | {"std": 10**400}},
        {"spec": SPEC.to_json() | {"min_area": "all"}},
        {"machine": 3},
        {"machine": {"processor": "p"}},
        {"files": {"../model.bin": "1" * 64}},
        {"files": {"model.bin": 3}},
        {"versions": ["a"]},
        {"speed": 3},
        {"gate": None},
        {"calibration": "x"},
        {"accuracy": 1},
        {"built": []},
        {"source": 3},
        {"checkpoint_sha256": 3},
        {"versions": {"openvino": 3}},
        {"precision_found": {"fp32": "all"}},
        {"trained": "yes"},
        {"folded": 1},
        {"portable": "true"},
    ],
)
def test_values_of_another_type_are_damage(tmp_path: Path, changes: dict[str, object]) -> None:
    MANIFEST.write(tmp_path)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values | {SEAL: seal_of(values)}))
    with pytest.raises(EngineError, match=r"is damaged|are damaged|batch|export the engine again"):
        read_unchecked(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"format": Infinity}',
        '{"format": 1e999}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format": ' + "9" * 5000 + "}",
        "3",
    ],
)
def test_documents_that_are_not_strict_are_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(EngineError, match=r"is damaged|is of format"):
        read_unchecked(tmp_path)


def test_a_fifo_and_a_huge_file_are_no_manifests(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(EngineError, match="not a regular file"):
        read_unchecked(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(EngineError, match="larger than 1 MiB"):
        read_unchecked(tmp_path)
