"""Made-up rows, the same every time, for tests of the code that reads rows."""

import random
from dataclasses import replace
from typing import Any

import numpy as np

from streamseg.benchmark.rows.nets import EndToEnd, NetEngine, NetRow, Pace, RowLimit, Starts
from streamseg.benchmark.rows.peers import PeerRow
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.run import EngineRef, Latency, LimitInfo, Row, RunInfo, Spread
from streamseg.benchmark.rows.streams import StreamFigures, StreamsRow

ROUNDS = 5
RUN = RunInfo(
    date="2026-11-22",
    started="2026-11-22T21:00:00Z",
    machine={
        "processor": "Intel(R) Xeon(R) Processor",
        "cores": 2,
        "last_level_cache_bytes": 37748736,
        "python": "3.11.7",
        "commit": "0123abc",
        "power": {"governor": None, "mhz": 2100.0, "memory_bytes": 25232932864},
    },
    threads=2,
    source={"name": "phantom clip", "synthetic": True, "roi": [20, 30, 580, 420]},
    regime={"rounds": ROUNDS, "block_seconds": 1.0, "warmup_calls": 3, "paces_fps": [30, 60]},
    limits={
        "fp32": LimitInfo(giga_per_s=310.2, kernel="conv 3x3 64"),
        "int8": LimitInfo(giga_per_s=1285.0, kernel="conv 3x3 64 int8"),
        "copy": LimitInfo(giga_per_s=11.9, kernel="copy 256 MB"),
    },
    others_share=0.021,
    seconds=261.4,
)
ENGINE = EngineRef(name="improved_unet-openvino-int8", sha256="2e" * 32, precision="int8", backend="openvino")


def make_run(command: str, **given: Any) -> RunInfo:
    """A run on a quiet machine; ``given`` replaces parts of it."""
    return replace(RUN, **{"command": f"streamseg {command}", **given})


def calls(median: float, count: int = 400, seed: int = 1) -> list[float]:
    """Milliseconds of calls: most near the median, some slow, one very slow."""
    draw = random.Random(seed)
    times = [
        median * draw.lognormvariate(0, 0.03) * (1.6 if draw.random() < 0.02 else 1) for _ in range(count)
    ]
    times[count // 2] = 4 * median
    return [round(time, 3) for time in times]


def latency(median: float, count: int = 100) -> Latency:
    times = calls(median, count)
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(times, (50, 95, 99)))
    return Latency(p50=p50, p95=p95, p99=p99, max=max(times))


def spread(value: float) -> Spread:
    return Spread.of([value, 0.97 * value, 1.03 * value])


ENGINES = (
    ("eager", "fp32", False, {"fp32": 1.0}, 1.0),
    ("eager", "fp32", True, {"fp32": 1.0}, 0.88),
    ("openvino", "fp32", True, {"fp32": 1.0}, 0.47),
    ("openvino", "int8", True, {"int8": 0.96, "fp32": 0.04}, 0.135),
    ("onnx", "fp32", True, {"fp32": 1.0}, 0.62),
)
"""Back end, precision, folded, precision found, and time as a share of eager's."""
NETS = {"improved_unet": (98.0, 18.1), "unet": (83.0, 18.1), "segnet": (291.0, 69.8)}
"""Milliseconds of torch eager as trained at 192x224, and GFLOP."""


def nets_rows(run: RunInfo | None = None, *, nets: tuple[str, ...] = tuple(NETS)) -> list[NetRow]:
    """Three nets, five variants each, at 192x224."""
    run = run or make_run("bench nets --json nets.json")
    return [_net_row(run, net, number) for net in nets for number in range(len(ENGINES))]


def _net_row(run: RunInfo, net: str, number: int) -> NetRow:
    backend, precision, folded, found, part = ENGINES[number]
    eager_ms, gflop = NETS[net]
    median = eager_ms * part
    times = calls(median, max(30, round(4000 / median)), seed=number)
    blocks = [block.tolist() for block in np.array_split(np.array(times), ROUNDS)]
    trained = net == "improved_unet" and folded
    limit = run.limits[precision].giga_per_s or 1.0
    share = round(gflop / (median / 1e3) / limit, 4)
    end_to_end = round(1e3 / (median * 1.02 + 1.5), 2)
    return NetRow(
        bench="nets",
        key=f"{net} {backend} {precision}{'' if folded else ' as trained'} 192x224 b1",
        run=run,
        rounds={
            "engine_ms": [float(np.median(block)) for block in blocks],
            "end_to_end_fps": [end_to_end] * 5,
        },
        net=net,
        backend=backend,
        precision=precision,
        precision_found=found,
        trained=trained,
        folded=folded,
        height=192,
        width=224,
        batch=1,
        engine=NetEngine(name=f"{net}-{backend}-{precision}", sha256="ab" * 32, from_="built"),
        engine_fps=round(len(times) * 1e3 / sum(times), 3),
        end_to_end_fps=end_to_end,
        latency_ms=latency(median, len(times)),
        durations_ms=blocks,
        end_to_end=EndToEnd(
            offered=120,
            processed=120,
            dropped=0,
            stages_ms={"infer": latency(median)},
            age_ms=latency(median),
        ),
        paced=[_pace(fps, median) for fps in (30.0, 60.0)],
        dice=(0.93 if precision == "int8" else 0.934) if trained else None,
        dice_data="24 phantoms",
        mask_agreement=(0.981 if precision == "int8" else 1.0) if trained else None,
        probability_difference=1e-6,
        limit_share=share,
        limit_share_spread=spread(share),
        limit=RowLimit(kind=precision, giga_per_s=limit, kernel="conv"),
        gflop=gflop,
        gflop_per_s=round(gflop / median * 1e3, 2),
        ratio_to_eager=spread(1 / part),
        model_bytes=9_200_000 if precision == "int8" else 31_000_000,
        peak_host_bytes=412_000_000,
        start_s=Starts(warm=0.61, build=12.0 if precision == "int8" else None),
        calls=len(times),
    )


def _pace(fps: float, infer_ms: float) -> Pace:
    offered = round(fps * 4)
    processed = min(offered, round(4000 / (infer_ms + 1.5)))
    return Pace(
        fps=fps,
        offered=offered,
        processed=processed,
        dropped=offered - processed,
        age_ms=latency(infer_ms * 1.2 + 4, processed),
        infer_ms=latency(infer_ms, processed),
        within_budget=0.0 if infer_ms > 140 else 1.0,
    )


def pipeline_rows(run: RunInfo | None = None) -> list[PipelineRow]:
    """Replay, and live at three paces, the last of which drops frames."""
    run = run or make_run("bench pipeline --json pipeline.json")
    return [_pipeline_row(run, fps) for fps in (None, 30.0, 60.0, 140.0)]


def _pipeline_row(run: RunInfo, fps: float | None) -> PipelineRow:
    offered = 640 if fps is None else round(fps * 10)
    processed = offered if fps is None else min(offered, 680)
    age = {None: 41.0, 30.0: 21.0, 60.0: 27.0, 140.0: 39.0}[fps]
    first = {"decode": 0.6, "queue": 22.0} if fps is None else {"wait": age - 17.5}
    last = "overlay" if fps is None else "display"
    stages = {**first, "preprocess": 0.5, "infer": 14.2, "postprocess": 0.8, last: 1.9}
    return PipelineRow(
        bench="pipeline",
        key="replay phantom clip" if fps is None else f"live {fps:g} fps",
        run=run,
        rounds={"age_p50_ms": [age, age * 1.01, age * 0.99], "fps": [processed / 10] * 3},
        mode="replay" if fps is None else "live",
        source_fps=fps,
        engine=ENGINE,
        offered=offered,
        processed=processed,
        dropped=offered - processed,
        fps=processed / 10,
        age_ms=latency(age, processed),
        stages_ms={name: latency(median) for name, median in stages.items()},
        within_budget=None if fps is None else 0.9985,
        states={"nerve": processed // 2, "no nerve": processed - processed // 2},
        age_over_time=[(second / 40, value) for second, value in enumerate(calls(age))],
        waterfall={"p50": _life(stages, 1.0), "p99": _life(stages, 1.7)},
    )


def _life(stages: dict[str, float], times: float) -> list[tuple[str, float, float]]:
    """One frame's stages, one after another."""
    ends = np.cumsum([0.0, *stages.values()]) * times
    return [(name, float(ends[at]), float(ends[at + 1])) for at, name in enumerate(stages)]


def streams_rows(run: RunInfo | None = None) -> list[StreamsRow]:
    """1, 2, 4 and 8 streams of 30 fps on a machine that does 68 frames a second."""
    run = run or make_run("bench streams --json streams.json")
    return [_streams_row(run, streams) for streams in (1, 2, 4, 8)]


def _streams_row(run: RunInfo, streams: int) -> StreamsRow:
    offered, processed = 300, min(300, 680 // streams)
    age = 20.0 + 15.0 * (streams - 1)
    counts = {"offered": offered, "processed": processed, "dropped": offered - processed}
    within = 1.0 if streams < 8 else 0.82
    each = StreamFigures(
        **counts,
        processed_fps=processed / 10,
        displayed_fps=processed / 10,
        age_ms=latency(age, processed),
        within_budget=within,
    )
    return StreamsRow(
        bench="streams",
        key=f"{streams} stream{'s' if streams > 1 else ''}",
        run=run,
        rounds={"age_p99_ms": [age * 1.5] * 3, "processed_fps": [processed * streams / 10] * 3},
        streams=streams,
        source_fps=30.0,
        budget_ms=150.0,
        engine=ENGINE,
        batch=1,
        lanes=1,
        **{name: count * streams for name, count in counts.items()},
        per_stream=[each] * streams,
        processed_fps=processed * streams / 10,
        age_ms=latency(age, processed),
        within_budget=within,
        holds_budget=streams < 8,
        holds_every_frame=streams < 3,
        processor_share=min(0.98, 0.42 * streams),
        batch_fill=1.0,
    )


PEERS = (
    ("runtime", "streamseg OpenVINO INT8", True, "int8", 13.4, None),
    ("runtime", "streamseg OpenVINO FP32", True, "fp32", 46.0, None),
    ("runtime", "OpenVINO, plain", False, "fp32", 45.5, "the same runtime, without our frame's copy"),
    ("runtime", "ONNX Runtime", False, "fp32", 61.0, None),
    ("pipeline", "streamseg, drawn", True, "int8", 15.6, None),
    ("pipeline", "OpenCV loop", False, "int8", 19.8, "decodes, segments and draws one after another"),
    ("net", "improved U-Net, OpenVINO", True, "fp32", 46.0, None),
    ("net", "MONAI BasicUNet, OpenVINO", False, "fp32", 31.0, "11.9 GFLOP instead of 18.1"),
)
"""Kind, name, ours, precision, milliseconds, why."""
OURS_MS = {"runtime": 46.0, "pipeline": 15.6, "net": 46.0}


def peers_rows(run: RunInfo | None = None) -> list[PeerRow]:
    """Runtimes, pipelines and nets, some of them faster than ours."""
    run = run or make_run("bench peers --json peers.json")
    return [
        PeerRow(
            bench="peers",
            key=f"{kind} {name.lower()}",
            run=run,
            rounds={"engine_ms": [median] * ROUNDS},
            kind=kind,
            name=name,
            ours=ours,
            precision=precision,
            fps=round(1e3 / median, 2),
            latency_ms=latency(median, 60),
            ratio=spread(1.0 if ours else median / OURS_MS[kind]),
            why=why,
            version=None if ours else "1.2.3",
            gflop=18.1 if kind == "net" else None,
            ready_s=1.2,
        )
        for kind, name, ours, precision, median, why in PEERS
    ]


def all_rows() -> list[Row]:
    """A run of each benchmark."""
    return [*nets_rows(), *pipeline_rows(), *streams_rows(), *peers_rows()]


def blanked(row: Row) -> Row:
    """The row with every figure of its kind unknown."""
    return type(row)(bench=row.bench, key=row.key, run=row.run)
