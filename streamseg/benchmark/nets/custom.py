"""Measures engines of one's own, whatever they run on, as those of ``streamseg bench nets`` are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from streamseg.benchmark.limits import Kernel
from streamseg.benchmark.nets.bench import NetsOptions, measure_nets
from streamseg.benchmark.nets.schedule import Schedule
from streamseg.benchmark.nets.variants import EAGER, InputShape, Variant
from streamseg.benchmark.rows import Row
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError
from streamseg.core.types import Backend

NET = "improved_unet"
"""What the engines are filed under; their weights may be any."""


def measure_engines(
    engines: Mapping[str, Backend],
    *,
    threads: int = 1,
    source: str | None = None,
    regime: Schedule | None = None,
    kernels: Sequence[Kernel] = (),
    say: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """A row of each of these engines, in their order, its ``backend`` the name here.

    They are called in turn on real frames. All that it takes is :class:`streamseg.core.types.Backend`; all
    have one input size, its sides multiples of 16. The one that is called ``eager`` is what the others'
    ``ratio_to_eager`` is of. What an engine says that it computes in is its ``precision``; what is found
    there is what its ``precision_found()`` answers, shares by precision,
    if it has one. An engine is closed in the end, and one that fails or hangs is in ``run["absent"]``::

        fake = FakeBackend(InputSpec(192, 224, mean=0.25, std=0.25, threshold=0.5), delay_ms=20)
        row = measure_engines({"fake": fake})[0]
        row["engine_fps"], row["latency_ms"]["p50"]

    ``source`` is a recorded clip, else a phantom's; ``regime`` how long it is measured, else as by
    ``--quick``; without ``kernels`` there is no ``limit_share``. Raises UsageError for no engines or several
    input sizes, and what :func:`streamseg.benchmark.nets.bench.measure_nets` does.
    """
    sizes = {(engine.spec.height, engine.spec.width) for engine in engines.values()}
    if len(sizes) != 1:
        raise UsageError(
            f"engines are measured side by side at one input size, received {len(engines)} of {len(sizes)} "
            "sizes; give one or more of one size"
        )
    (size,) = sizes
    subjects = [_subject(name, engine) for name, engine in engines.items()]
    options = NetsOptions(threads, nets=(NET,), sizes=(size,), source=source, regime=regime, quick=True)
    return measure_nets(options, say, make=lambda _: (subjects, {}), kernels=kernels)


def _subject(name: str, engine: Backend) -> Variant:
    info = EngineInfo.of(engine)
    ask = getattr(engine, "precision_found", None)
    return Variant(
        point=InputShape(NET, engine.spec.height, engine.spec.width),
        backend=name,
        precision=info.precision or "fp32",
        engine=engine,
        precision_found=ask() if callable(ask) else {},
        folded=name != EAGER,
        trained=info.trained,
        origin="given",
        model_bytes=getattr(engine, "model_bytes", 0),
    )
