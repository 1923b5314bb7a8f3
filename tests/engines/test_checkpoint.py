"""Checkpoints: what is written comes back, damage is named, a failed write leaves the old file."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamseg.core.errors import EngineError, SinkError, StreamsegError
from streamseg.core.types import InputSpec
from streamseg.engines.checkpoint import read_checkpoint, write_checkpoint

SPEC = InputSpec(192, 224, mean=0.25, std=0.25, threshold=0.5, min_area=0.002)


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "a.weight": generator.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "a.bias": generator.normal(size=4).astype(np.float32),
        "a.num_batches_tracked": np.array(7),
    }


def write(path: Path, **changes: Any) -> str:
    options: dict[str, Any] = {"net": "improved_unet", "folded": False, "trained": True, "spec": SPEC}
    return write_checkpoint(path, changes.pop("weights", weights()), **options | changes)


@pytest.mark.parametrize("net", ["unet", "segnet", "improved_unet"])
@pytest.mark.parametrize("folded", [True, False])
def test_a_checkpoint_reads_back_as_written(tmp_path: Path, net: str, folded: bool) -> None:
    path = tmp_path / "w.safetensors"
    sha256 = write(path, net=net, folded=folded, trained=not folded)
    read = read_checkpoint(path)
    assert (read.net, read.folded, read.trained, read.spec) == (net, folded, not folded, SPEC)
    assert read.sha256 == sha256
    assert len(sha256) == 64
    for name, array in weights().items():
        stored = array.astype(np.float16).astype(np.float32) if folded and array.dtype.kind == "f" else array
        assert read.weights[name].dtype == stored.dtype
        assert np.array_equal(read.weights[name], stored)


def test_the_licence_and_restyling_of_the_training_data_travel_with_weights(tmp_path: Path) -> None:
    plain, noted = tmp_path / "plain.safetensors", tmp_path / "noted.safetensors"
    write(plain)
    write(noted, licence="CC0", restyled=True)
    assert (read_checkpoint(plain).licence, read_checkpoint(plain).restyled) == ("", False)
    assert (read_checkpoint(noted).licence, read_checkpoint(noted).restyled) == ("CC0", True)


def test_equal_weights_have_equal_hashes(tmp_path: Path) -> None:
    assert len({write(tmp_path / f"{copy}.safetensors") for copy in range(8)}) == 1


def test_folded_weights_take_half_the_space(tmp_path: Path) -> None:
    large = {"w": np.zeros((100, 100), np.float32)}
    write(tmp_path / "a", weights=large, folded=True)
    write(tmp_path / "b", weights=large, folded=False)
    assert (tmp_path / "b").stat().st_size - (tmp_path / "a").stat().st_size == pytest.approx(20_000, abs=10)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_cannot_be_stored_leave_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "w.safetensors"
    sha256 = write(path)
    with pytest.raises(EngineError, match=r"a\.bias"):
        write(path, weights={"a.bias": np.array([value], np.float32)}, folded=True)
    assert read_checkpoint(path).sha256 == sha256
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    sha256 = write(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SinkError, match="No space left"):
        write(path, trained=False)
    assert read_checkpoint(path).sha256 == sha256
    assert list(tmp_path.iterdir()) == [path]


def test_an_impossible_folder_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("a file")
    with pytest.raises(SinkError, match="cannot write"):
        write(tmp_path / "no" / "w.safetensors")


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="safetensors file"):
        read_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(EngineError, match="cannot read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other-2"}, "other-2"),
        ({"format": None}, "unknown"),
        ({"net": "transformer"}, "transformer"),
        ({"net": None}, "lacks net"),
        ({"spec": None, "folded": None}, "lacks folded, spec"),
        ({"spec": "{}"}, "input specification"),
    ],
)
def test_foreign_metadata_is_refused(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    metadata: dict[str, str | None] = {
        "format": "streamseg-checkpoint-1",
        "net": "unet",
        "folded": "true",
        "trained": "true",
        "spec": json.dumps(SPEC.to_json()),
    }
    kept = {key: value for key, value in (metadata | changes).items() if value is not None}
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(weights(), path, kept)
    with pytest.raises(EngineError, match=message):
        read_checkpoint(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write(path, weights={"w": np.ones(50, np.float32)})
    data = path.read_bytes()
    path.write_bytes(data[:-4] + np.float32("nan").tobytes())
    with pytest.raises(EngineError, match="not finite"):
        read_checkpoint(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "w.safetensors"
    write(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, min(len(content) - 1, 700)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        read_checkpoint(path)
    except StreamsegError as error:
        message = str(error)
    assert "\n" not in message
