"""The default back end, with small engines that were really exported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openvino import opset13 as ops

from streamseg.backends import load_backend
from streamseg.backends.openvino.backend import OpenVINOBackend, can_compute_in
from streamseg.core.errors import EngineError, StreamsegError, UsageError
from streamseg.core.types import Backend, InputSpec
from tests.backends.small_engines import SPEC, info_of, rewrite, small_model, write_engine


def tensor(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 1, 32, 48)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "small")


def test_it_computes_what_the_model_says(engine: Path) -> None:
    backend = load_backend(engine)
    assert isinstance(backend, Backend)
    x = tensor()
    mean = cv2.boxFilter(x[0, 0], -1, (3, 3), borderType=cv2.BORDER_CONSTANT)
    assert backend.infer(x)[0] == pytest.approx(1 / (1 + np.exp(-2 * mean)), abs=1e-6)
    assert (backend.name, backend.spec) == ("small", SPEC)
    assert len(backend.fingerprint) == 64


def test_the_caller_may_keep_answers(engine: Path) -> None:
    backend = load_backend(engine)
    first = backend.infer(tensor(0))
    kept = first.copy()
    second = backend.infer(tensor(1))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)
    assert np.array_equal(backend.infer(tensor(0)), kept)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "manifest.json", ""])
def test_the_folder_or_any_of_its_files_names_the_engine(engine: Path, name: str) -> None:
    assert load_backend(str(engine / name)).name == "small"


def test_a_tensor_of_another_shape_is_refused(engine: Path) -> None:
    with pytest.raises(EngineError, match=r"takes a tensor \(1, 1, 32, 48\), received \(32, 48\)"):
        load_backend(engine).infer(np.zeros((32, 48), np.float32))


def test_after_closing_it_says_so(engine: Path) -> None:
    backend = load_backend(engine)
    backend.close()
    backend.close()
    with pytest.raises(EngineError, match="is closed"):
        backend.infer(tensor())


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_changed_file_is_not_run(tmp_path: Path, name: str) -> None:
    folder = write_engine(tmp_path / "e")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(EngineError, match="not the file that the manifest describes"):
        load_backend(folder)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_engine(tmp_path / "e")
    (folder / name).unlink()
    with pytest.raises(EngineError, match=f"cannot read .*{name}"):
        load_backend(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "streamseg-engine-9"}, "streamseg-engine-9.*export the engine again"),
        ({"backend": "abacus"}, "back end 'abacus'"),
        ({"precision": "int3"}, "int3"),
        ({"spec": SPEC.to_json() | {"height": 64}}, r"asks for f32 \[1, 1, 64, 48\]"),
        ({"spec": SPEC.to_json() | {"std": 0}}, "input specification"),
        ({"spec": None}, "input specification"),
        ({"files": {}}, "not the file that the manifest describes"),
        ({"files": ["model.xml"]}, "damaged"),
        ({"name": 7}, "damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = write_engine(tmp_path / "e")
    rewrite(folder, **changes)
    with pytest.raises(EngineError, match=message) as caught:
        load_backend(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"format": "streamseg-engine-1"}', "[" * 100_000]
)
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_engine(tmp_path / "e")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(EngineError) as caught:
        load_backend(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def two_inputs() -> ov.Model:
    a, b = (ops.parameter([1, 1, 32, 48], np.float32, name=name) for name in "ab")
    return ov.Model([ops.add(a, b)], [a, b], "two")


def half() -> ov.Model:
    frame = ops.parameter([1, 1, 32, 48], np.float16, name="frame")
    return ov.Model([ops.sigmoid(frame)], [frame], "half")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, "has the input f32 .* f32"),
        (half, "has the input f16"),
        (lambda: small_model(outputs=2), r"has the output f32 \[1,2,32,48\]"),
    ],
)
def test_a_model_that_does_not_fit_its_manifest(
    tmp_path: Path, make: Callable[[], ov.Model], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        load_backend(write_engine(tmp_path / "e", make()))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
@settings(max_examples=25, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), byte=st.none() | st.integers(0, 255))
@example(where=0.6850670318556489, byte=128)  # text that is no UTF-8
def test_damage_that_the_manifest_vouches_for_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, engine: Path, name: str, where: float, byte: int | None
) -> None:
    """Even when the hashes were made after the damage, OpenVINO's complaint is one line of ours."""
    folder = tmp_path_factory.mktemp("damaged") / "e"
    shutil.copytree(engine, folder)
    content = bytearray((folder / name).read_bytes())
    place = int(where * len(content))
    content[place:] = b"" if byte is None else bytes([byte]) + content[place + 1 :]
    (folder / name).write_bytes(content)
    files = {file: sha256((folder / file).read_bytes()).hexdigest() for file in ("model.xml", "model.bin")}
    rewrite(folder, files=files)
    message = ""
    try:
        load_backend(folder).infer(tensor())
    except StreamsegError as error:
        message = str(error)
    assert "\n" not in message


def test_throughput_gives_the_same_answers_from_several_threads(engine: Path) -> None:
    single, backend = load_backend(engine), load_backend(engine, throughput=True, threads=4)
    assert isinstance(single, OpenVINOBackend)
    assert isinstance(backend, OpenVINOBackend)
    assert single.info.lanes == 1
    assert backend.info.lanes >= 1
    tensors = [tensor(seed) for seed in range(40)]
    with ThreadPoolExecutor(backend.info.lanes + 2) as pool:  # more callers than lanes wait their turn
        answers = list(pool.map(backend.infer, tensors))
    for x, answer in zip(tensors, answers, strict=True):
        assert answer == pytest.approx(single.infer(x), abs=1e-6)


def test_threads_come_from_the_argument_or_the_environment(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_backend(engine, threads=1).infer(tensor())
    monkeypatch.setenv("STREAMSEG_THREADS", "2")
    assert load_backend(engine).infer(tensor()) == pytest.approx(expected, abs=1e-6)
    for bad in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("STREAMSEG_THREADS", bad)
        with pytest.raises(UsageError, match="thread"):
            load_backend(engine)


def test_fp32_is_fp32_whatever_the_processor_offers() -> None:
    """bfloat16 keeps 8 bits; single precision is far closer to the exact answer."""
    backend = OpenVINOBackend(small_model(), info_of(precision="fp32"))
    x = tensor()
    mean = cv2.boxFilter(x[0, 0].astype(np.float64), -1, (3, 3), borderType=cv2.BORDER_CONSTANT)
    assert np.abs(backend.infer(x) - 1 / (1 + np.exp(-2 * mean))).max() < 1e-6


def test_the_fingerprint_changes_with_the_specification(tmp_path: Path) -> None:
    first, second = write_engine(tmp_path / "a"), tmp_path / "b"
    shutil.copytree(first, second)
    assert load_backend(first).fingerprint == load_backend(second).fingerprint
    rewrite(second, spec=SPEC.to_json() | {"threshold": 0.6})
    assert load_backend(first).fingerprint != load_backend(second).fingerprint
    assert load_backend(second).spec == InputSpec(32, 48, 0.25, 0.25, 0.6, 0.001)


def test_running_an_engine_imports_no_torch(engine: Path) -> None:
    code = (
        "import sys; from streamseg.backends import load_backend; assert 'openvino' not in sys.modules;"
        f"load_backend({str(engine)!r}); bad = {{'torch', 'streamseg.training', 'streamseg.datasets'}};"
        "print(bad & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def engine_of(model: ov.Model, precision: str = "fp32", batch: int = 1) -> OpenVINOBackend:
    return OpenVINOBackend(model, info_of(precision=precision, batch=batch))


@pytest.mark.parametrize("throughput", [False, True])
def test_a_batch_equals_its_frames_one_by_one(tmp_path: Path, throughput: bool) -> None:
    folder = write_engine(tmp_path / "e", small_model(batch=3))
    rewrite(folder, batch=3)
    backend = load_backend(folder, throughput=throughput)
    assert isinstance(backend, OpenVINOBackend)
    assert backend.info.batch == 3
    frames = [tensor(seed) for seed in range(3)]
    answer = backend.infer(np.concatenate(frames))
    single = engine_of(small_model())
    assert single.info.batch == 1
    assert answer.shape == (3, 1, 32, 48)
    for frame, found in zip(frames, answer, strict=True):
        assert found == pytest.approx(single.infer(frame), abs=1e-6)
    with pytest.raises(EngineError, match=r"takes a tensor \(3, 1, 32, 48\), received \(1, 1, 32, 48\)"):
        backend.infer(frames[0])


def test_a_model_of_another_batch_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "e", small_model(batch=2))
    with pytest.raises(EngineError, match=r"asks for f32 \[1, 1, 32, 48\]"):
        load_backend(folder)


def test_the_precision_found_is_what_kernels_compute_in(tmp_path: Path) -> None:
    """Weights that are stored in half say nothing about it."""
    ov.save_model(small_model(), tmp_path / "half.xml", compress_to_fp16=True)
    for model in (small_model(), ov.Core().read_model(tmp_path / "half.xml")):
        backend = engine_of(model)
        assert backend.precision_found() == {"fp32": 1.0}
        backend.close()
        with pytest.raises(EngineError, match="is closed"):
            backend.precision_found()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_used_if_the_processor_has_it(precision: str) -> None:
    backend = engine_of(small_model(), precision)
    assert backend.info.precision == precision
    expected = precision if can_compute_in(precision) else "fp32"
    assert backend.precision_found()[expected] > 0.4
    error = np.abs(backend.infer(tensor()) - engine_of(small_model()).infer(tensor())).max()
    assert error < (0.02 if can_compute_in(precision) else 1e-6)


def test_every_processor_computes_in_fp32() -> None:
    assert can_compute_in("fp32")
    assert can_compute_in("int8")


HANDLE = """
import faulthandler, os, signal, sys
if sys.argv[2] == "faulthandler":
    faulthandler.enable()
from streamseg.backends import load_backend
from streamseg.backends.openvino.signal_stack import current_signal_stack

def stack():
    found = current_signal_stack()
    return found and (found.address, found.flags, found.size)

before = stack()
first, second = (load_backend(sys.argv[1]) for _ in range(2))
assert stack() == before
first.close()
second.close()
del first, second
assert stack() == before
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("mode", ["faulthandler", "plain"])
def test_a_signal_is_handled_after_two_engines_were_freed(mode: str, tmp_path: Path) -> None:
    write_engine(tmp_path / "engine")
    done = subprocess.run(
        [sys.executable, "-c", HANDLE, str(tmp_path / "engine"), mode],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
