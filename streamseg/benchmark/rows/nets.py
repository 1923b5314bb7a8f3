"""A row of ``bench nets``: one way to run one net at one input size and batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamseg.benchmark.rows.figures import RATE, Figure, frames, lost, times, values
from streamseg.benchmark.rows.run import Latency, Record, Row, Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class NetEngine(Record):
    """The engine that was measured."""

    name: str | None = None
    sha256: str | None = None
    from_: str | None = None
    """``shipped``, ``store`` or ``built``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd(Record):
    """Frames from the encoded file to the drawn outline, all rounds together."""

    offered: int | None = None
    """Frames read from the file."""
    processed: int | None = None
    """Frames that came out with their outline drawn."""
    dropped: int | None = None
    stages_ms: dict[str, Latency] = field(default_factory=dict)
    """decode, preprocess, infer, postprocess, overlay, and the waiting between them: queue."""
    age_ms: Latency = field(default_factory=Latency.unknown)
    """From the decoded frame to its drawn outline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace(Record):
    """A live run on frames that come at a fixed rate."""

    fps: float | None = None
    """Frames per second of the source."""
    offered: int | None = None
    processed: int | None = None
    """Frames that were segmented."""
    dropped: int | None = None
    age_ms: Latency = field(default_factory=Latency.unknown)
    """From the capture to the display."""
    infer_ms: Latency = field(default_factory=Latency.unknown)
    within_budget: float | None = None
    """Share of the processed frames, 0..1, displayed within the age budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLimit(Record):
    """The machine's limit that a row is compared with."""

    kind: str = ""
    """``fp32``, ``fp16``, ``bf16`` or ``int8``."""
    giga_per_s: float | None = None
    """10^9 operations per second."""
    kernel: str = ""
    """The kernel that reached it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts(Record):
    """Seconds until the first mask."""

    warm: float | None = None
    """From the start of a process, with everything cached."""
    build: float | None = None
    """To build the engine; null for one that was there already."""
    cold: float | None = None
    """Both together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetRow(Row):
    """One way to run one net at one input size and batch."""

    net: str = ""
    """``improved_unet``, ``lite_unet``, ``unet`` or ``segnet``."""
    backend: str = ""
    """``eager``, ``openvino``, ``onnx``, ``compiled``, ``eager-cuda`` or ``tensorrt``."""
    precision: str = ""
    """The precision that was asked for: ``fp32``, ``fp16``, ``bf16`` or ``int8``."""
    precision_found: dict[str, float] = field(default_factory=dict)
    """Share of the layers, 0..1, by the precision that the engine reports to compute in."""
    trained: bool | None = None
    """False for random weights."""
    folded: bool | None = None
    """Whether batch normalisation is folded into the convolutions; False runs the net as trained."""
    height: int | None = None
    """Of the input, pixels."""
    width: int | None = None
    batch: int | None = None
    """Frames per call."""
    engine: NetEngine = field(default_factory=NetEngine.unknown)
    engine_fps: float | None = None
    """Frames per second of the engine alone, over all counted calls."""
    end_to_end_fps: float | None = None
    """Frames per second from the encoded file to the drawn outline."""
    latency_ms: Latency = field(default_factory=Latency.unknown)
    """Of every engine call."""
    durations_ms: list[list[float]] = field(default_factory=list)
    """Every engine call, by round."""
    end_to_end: EndToEnd = field(default_factory=EndToEnd.unknown)
    paced: list[Pace] = field(default_factory=list)
    dice: float | None = None
    """Mean Dice of the masks and the labels, 0..1; null for random weights."""
    dice_data: str = ""
    """The images that Dice is measured on, such as ``24 phantoms``."""
    mask_agreement: float | None = None
    """Mean Dice of the masks and FP32's, 0..1; null for random weights."""
    probability_difference: float | None = None
    """The largest mean absolute difference to FP32's probabilities in any image."""
    limit_share: float | None = None
    """Arithmetic per second as a share of the machine's limit in that precision, in the same rounds."""
    limit_share_spread: Spread = field(default_factory=Spread.unknown)
    limit: RowLimit = field(default_factory=RowLimit.unknown)
    gflop: float | None = None
    """10^9 operations per call, 2 per multiply-add."""
    gflop_per_s: float | None = None
    ratio_to_eager: Spread = field(default_factory=Spread.unknown)
    """How many times as fast as torch eager FP32 as trained, within each round."""
    model_bytes: int | None = None
    peak_host_bytes: int | None = None
    """Largest resident set of a process that loads the engine and segments one frame."""
    peak_gpu_bytes: int | None = None
    start_s: Starts = field(default_factory=Starts.unknown)
    calls: int | None = None
    """Counted engine calls."""
    energy_j_per_frame: float | None = None
    """Null: energy is not measured."""

    def figures(self) -> Iterator[Figure]:
        yield from values(self, "engine_fps", "end_to_end_fps", judged="ratio", tolerance=RATE)
        yield from times("latency_ms", self.latency_ms)
        yield from values(self, "dice", "mask_agreement", tolerance=0.005)
        sizes = "model_bytes", "peak_host_bytes", "peak_gpu_bytes"
        yield from values(self, *sizes, tolerance=0.05, relative=True, less_is_better=True)
        if self.has("precision_found") and self.precision:
            found = self.precision_found.get(self.precision.lower(), 0.0)
            yield Figure(f"computes in {self.precision}", found, tolerance=0.01)
        if self.has("limit_share"):
            rounds, spread = max(map(len, self.rounds.values()), default=None), self.limit_share_spread
            share = self.limit_share
            yield Figure("limit_share", share, tolerance=0.1, relative=True, count=rounds, spread=spread)
        yield from lost("end to end ", self.end_to_end.dropped, self.end_to_end.offered)
        for pace in self.paced:
            yield from frames(f"at {pace.fps} fps ", pace)

    @property
    def engine_sha256(self) -> str | None:
        return self.engine.sha256
