"""Measures engines of your own, whatever they run on, as those of ``streamseg bench nets`` are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.benchmark.limits import Kernel
from streamseg.benchmark.nets.bench import NetsOptions, measure_nets
from streamseg.benchmark.nets.schedule import Schedule
from streamseg.benchmark.nets.variants import EAGER, InputShape, Variant, VariantSpec
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import UsageError
from streamseg.core.types import Backend, Say

NET = "improved_unet"
"""The net in the rows of the engines; their weights may be any."""


def measure_engines(
    engines: Mapping[str, Backend],
    *,
    threads: int = 1,
    source: str | None = None,
    regime: Schedule | None = None,
    kernels: Sequence[Kernel] = (),
    say: Say = lambda _: None,
) -> list[dict[str, Any]]:
    """A row of each of these engines, in their order, as ``--json`` writes it; its ``backend`` is the name
    here.

    They are called in turn on real frames. All that it takes is :class:`streamseg.core.types.Backend`; all
    have one input size, its sides multiples of 16. The one called ``eager`` is what the others'
    ``ratio_to_eager`` is relative to. An engine's attribute ``precision`` is its row's; what its method
    ``precision_found`` returns, if it has one, are shares by precision. Engines are closed at the end, and
    one that fails or hangs is in ``run["absent"]``::

        fake = FakeBackend(InputSpec(192, 224, mean=0.25, std=0.25, threshold=0.5), delay_ms=20)
        row = measure_engines({"fake": fake})[0]
        row["engine_fps"], row["latency_ms"]["p50"]

    ``source`` is a recorded clip, by default a phantom's; ``regime`` says how long it measures, by default as
    with ``--quick``; without ``kernels`` there is no ``limit_share``. Raises UsageError for no engines or
    several input sizes, and what :func:`streamseg.benchmark.nets.bench.measure_nets` does.
    """
    sizes = {(engine.spec.height, engine.spec.width) for engine in engines.values()}
    if len(sizes) != 1:
        raise UsageError(
            f"engines are measured side by side at one input size, received {len(engines)} of {len(sizes)} "
            "sizes; give one or more of one size"
        )
    (size,) = sizes
    variants = [_variant(name, engine) for name, engine in engines.items()]
    options = NetsOptions(
        threads=threads, nets=(NET,), sizes=(size,), source=source, regime=regime, quick=True
    )
    rows = measure_nets(options, say, make=lambda *_: (variants, {}), kernels=kernels)
    return [row.to_json() for row in rows]


def _variant(name: str, engine: Backend) -> Variant:
    info, spec = EngineInfo.of(engine), engine.spec
    return Variant(
        shape=InputShape(NET, spec.height, spec.width),
        spec=VariantSpec(name, info.precision or "fp32", folded=name != EAGER),
        engine=engine,
        trained=info.trained,
        origin="given",
        model_bytes=getattr(engine, "model_bytes", 0),
    )
