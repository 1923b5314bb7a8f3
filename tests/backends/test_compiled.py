"""The back end of torch.compile: builds, loads what was built, refuses the rest. On the processor."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the compiled back end needs torch (extra 'tensorrt')")

from streamseg.backends import compiled  # noqa: E402
from streamseg.backends.compiled import CACHE, OPTIONS, WEIGHTS, load, type_shares  # noqa: E402
from streamseg.backends.eager import EagerBackend  # noqa: E402
from streamseg.core.errors import EngineError, MissingExtra  # noqa: E402
from streamseg.core.types import Backend, InputSpec  # noqa: E402
from streamseg.engines.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from streamseg.engines.manifest import Manifest  # noqa: E402
from streamseg.export.builders.compiled import build  # noqa: E402
from streamseg.export.contract import BuildOrder  # noqa: E402
from streamseg.nets import build_net, fold  # noqa: E402

SPEC = InputSpec(32, 32, mean=0.25, std=0.25, threshold=0.5)
FINGERPRINT = "0" * 64
TENSORS = np.random.default_rng(0).normal(size=(2, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A folded improved U-Net with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("compiled") / "w.safetensors"
    weights = {name: t.numpy() for name, t in fold(build_net("improved_unet")).state_dict().items()}
    write_checkpoint(path, weights, net="improved_unet", folded=True, trained=False, spec=SPEC)
    return read_checkpoint(path)


def manifest(checkpoint: Checkpoint, folder: Path, precision: str = "fp32", batch: int = 1) -> Manifest:
    files = {file.name: sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    net, spec = checkpoint.net, checkpoint.spec
    return Manifest("some-engine", net, "compiled", precision, True, False, spec, "0" * 64, files, batch)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02)])
def test_a_built_engine_loads_without_compiling_anew(
    checkpoint: Checkpoint,
    precision: str,
    tolerance: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "first"))
    folder = tmp_path / "engine"
    folder.mkdir()
    said: list[str] = []
    built = build(BuildOrder(checkpoint, precision, batch=2, say=said.append), folder)
    assert built.versions == {"torch": torch.__version__}
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, CACHE, OPTIONS}
    assert "compiling improved_unet for the processor" in said[0]

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "second"))
    counters = torch._dynamo.utils.counters
    counters.clear()
    backend = load(folder, manifest(checkpoint, folder, precision, 2), FINGERPRINT)
    assert counters["inductor"]["fxgraph_cache_hit"] == 1
    assert counters["inductor"]["fxgraph_cache_miss"] == 0
    assert isinstance(backend, Backend)
    assert backend.precision_found() == {precision: 1.0}
    assert (backend.info.batch, backend.info.trained, backend.info.precision) == (2, False, precision)
    eager = EagerBackend(checkpoint, "eager")
    wanted = np.stack([eager.infer(tensor[None]) for tensor in TENSORS])
    assert backend.infer(TENSORS) == pytest.approx(wanted, abs=tolerance)
    frames = np.random.default_rng(1).integers(0, 256, (2, 40, 60, 3), np.uint8)
    assert backend.mask(frames).shape == (2, 32, 32)
    assert backend.infer_grey(frames[:, :32, :32, 0]).shape == (2, 1, 32, 32)
    backend.close()
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_many_engines_of_one_process(checkpoint: Checkpoint) -> None:
    """torch gives up on a function that it compiles too often; engines must not count as one."""
    for side in (32, 48, 64):
        other = replace(checkpoint, spec=replace(SPEC, height=side))
        # By torch's own means: pytest's monkeypatch would leave the setting hidden afterwards.
        with torch._dynamo.config.patch(recompile_limit=1), torch.no_grad():
            forward, _ = compiled.compile_net(other, torch.float32, 1, "cpu")
            assert forward(torch.zeros(1, 1, side, 32)).shape == (1, 1, side, 32)


@pytest.mark.parametrize(
    ("precision", "message"),
    [("int8", "--backend tensorrt on a GPU, openvino"), ("fp16", "fp16 on a GPU only")],
)
def test_an_unavailable_precision_is_refused(
    checkpoint: Checkpoint,
    precision: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match=message):
        build(BuildOrder(checkpoint, precision), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_engine_of_other_precision_than_asked_is_not_built(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def precision_found(self) -> dict[str, float]:
            return {"bf16": 0.9, "fp32": 0.1}

        def close(self) -> None: ...

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("streamseg.export.builders.compiled.CompiledBackend", Half)
    with pytest.raises(EngineError, match="asked for bf16"):
        build(BuildOrder(checkpoint, "bf16"), tmp_path)


def test_without_torch_the_extra_is_named(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"streamseg\[tensorrt\]"):
        build(BuildOrder(checkpoint, "fp32"), tmp_path)


def engine_folder(folder: Path, checkpoint: Checkpoint, options: bytes = b'{"device": "cpu"}') -> Path:
    write_checkpoint(
        folder / WEIGHTS, checkpoint.weights, net=checkpoint.net, folded=True, trained=False, spec=SPEC
    )
    (folder / CACHE).write_bytes(b"")
    (folder / OPTIONS).write_bytes(options)
    return folder


@pytest.mark.parametrize("name", [WEIGHTS, CACHE, OPTIONS])
def test_an_altered_file_is_refused(checkpoint: Checkpoint, name: str, tmp_path: Path) -> None:
    folder = engine_folder(tmp_path, checkpoint)
    described = manifest(checkpoint, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"x")
    with pytest.raises(EngineError, match=f"{name} is not the file that the manifest describes"):
        load(folder, described, FINGERPRINT)


@pytest.mark.parametrize("options", [b"{", b"{}", b"[]"])
def test_invalid_options_are_refused(checkpoint: Checkpoint, options: bytes, tmp_path: Path) -> None:
    folder = engine_folder(tmp_path, checkpoint, options)
    with pytest.raises(EngineError, match="export it again"):
        load(folder, manifest(checkpoint, folder), FINGERPRINT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_engine_for_a_gpu_needs_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = engine_folder(tmp_path, checkpoint, b'{"device": "cuda"}')
    with pytest.raises(EngineError, match="NVIDIA GPU"):
        load(folder, manifest(checkpoint, folder), FINGERPRINT)


def test_shares_by_type_are_those_of_the_graph() -> None:
    class Mixed(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            half = torch.relu(x.bfloat16())  # two operators in bf16, one in float32, one in double
            return half.float().double() * (x > 0)

    graph = torch.export.export(Mixed(), (torch.zeros(2, 3),)).graph
    assert type_shares(graph) == pytest.approx({"bf16": 2 / 5, "fp32": 1 / 5, "other": 2 / 5})
