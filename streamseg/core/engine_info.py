"""The description of an engine, which every layer reads instead of asking a back end for attributes."""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.core.types import Backend, InputSpec


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is known about a loaded engine besides its answers."""

    name: str
    """Engine name, such as ``improved_unet-openvino-int8``."""
    sha256: str
    """Of the file that the engine was read from, 64 hex digits."""
    spec: InputSpec
    backend: str
    """What runs it: openvino, onnx, tensorrt, compiled, eager, fake; of a user's own back end its module."""
    precision: str | None = None
    """What was asked for: fp32, fp16, bf16 or int8; None if the back end does not say."""
    batch: int = 1
    """Frames per call: the input is (batch, 1, height, width)."""
    lanes: int = 1
    """Threads that may call ``infer`` at the same time."""
    trained: bool = True
    """False for random weights, which only serve to measure speed."""
    device: str = "cpu"
    """``cpu`` or ``cuda``, as torch names devices."""

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on an NVIDIA GPU."""
        return self.device.startswith("cuda")

    def identity(self) -> dict[str, str]:
        """Values for JSON that identify the engine: ``name`` and ``sha256``."""
        return {"name": self.name, "sha256": self.sha256}

    @classmethod
    def of(cls, backend: Backend) -> EngineInfo:
        """The description of any back end.

        Ours carry one as ``info``. A user's own may have any of the attributes ``precision``, ``batch``,
        ``lanes``, ``trained`` and ``device`` instead; one without them
        accepts one frame at a time, from one thread.
        """
        info = getattr(backend, "info", None)
        if isinstance(info, cls):
            return info
        precision = getattr(backend, "precision", None)
        return cls(
            name=backend.name,
            sha256=backend.fingerprint,
            spec=backend.spec,
            backend=type(backend).__module__.rpartition(".")[2],
            precision=None if precision is None else str(precision),
            batch=int(getattr(backend, "batch", 1)),
            lanes=int(getattr(backend, "lanes", 1)),
            trained=bool(getattr(backend, "trained", True)),
            device=str(getattr(backend, "device", "cpu")),
        )


class Described:
    """Base of our back ends: the attributes of the protocol ``Backend`` are those of ``info``."""

    info: EngineInfo

    @property
    def name(self) -> str:
        """Engine name."""
        return self.info.name

    @property
    def fingerprint(self) -> str:
        """sha256 of the engine, 64 hex digits."""
        return self.info.sha256

    @property
    def spec(self) -> InputSpec:
        """What the net expects."""
        return self.info.spec
