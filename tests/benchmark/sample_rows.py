"""Rows as the benchmarks write them, made up and the same every time: for tests of what reads rows."""

import random
from typing import Any

import numpy as np

from streamseg.benchmark.rows import Row

Json = dict[str, Any]
ROUNDS = 5


def make_run(command: str, **given: Any) -> Json:
    """A run on a quiet machine; ``given`` replaces what it says."""
    return {
        "command": f"streamseg {command}",
        "quick": False,
        "date": "2026-11-22",
        "started": "2026-11-22T21:00:00Z",
        "machine": {
            "processor": "Intel(R) Xeon(R) Processor",
            "cores": 2,
            "features": ["avx2", "avx512f", "avx512_vnni"],
            "last_level_cache_bytes": 37748736,
            "load": 0.21,
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "openvino": "2026.4.1",
            "commit": "0123abc",
            "power": {"governor": None, "mhz": 2100.0, "hypervisor": "kvm", "memory_bytes": 25232932864},
        },
        "threads": 2,
        "source": {"name": "phantom clip", "synthetic": True, "roi": [20, 30, 580, 420]},
        "regime": {"rounds": ROUNDS, "block_seconds": 1.0, "warmup_calls": 3, "paces_fps": [30, 60]},
        "limits": {
            "fp32": {"giga_per_s": 310.2, "kernel": "conv 3x3 64"},
            "int8": {"giga_per_s": 1285.0, "kernel": "conv 3x3 64 int8"},
            "copy": {"giga_per_s": 11.9, "kernel": "copy 256 MB"},
        },
        "others_share": 0.021,
        "absent": {},
        "seconds": 261.4,
    } | given


def latencies(median: float, calls: int = 400, seed: int = 1) -> list[float]:
    """Milliseconds of calls: most near the median, some slow, one very slow."""
    draw = random.Random(seed)
    times = [
        median * draw.lognormvariate(0, 0.03) * (1.6 if draw.random() < 0.02 else 1) for _ in range(calls)
    ]
    times[calls // 2] = 4 * median
    return [round(time, 3) for time in times]


def percentiles(times: list[float]) -> Json:
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(times, (50, 95, 99)))
    return {"p50": p50, "p95": p95, "p99": p99, "max": max(times)}


def spread(value: float, by: float = 0.03) -> Json:
    return {"median": value, "min": round(value * (1 - by), 4), "max": round(value * (1 + by), 4)}


def stages(infer_ms: float) -> Json:
    """Milliseconds of the stages of a frame."""
    medians = {"decode": 0.6, "preprocess": 0.4, "infer": infer_ms, "postprocess": 0.7, "overlay": 1.8}
    return {name: percentiles(latencies(median, 100)) for name, median in medians.items()}


def paced_figures(fps: float, infer_ms: float) -> Json:
    offered = round(fps * 4)
    processed = min(offered, round(4000 / (infer_ms + 1.5)))
    return {
        "fps": fps,
        "offered": offered,
        "processed": processed,
        "dropped": offered - processed,
        "age_ms": percentiles(latencies(infer_ms * 1.2 + 4, processed)),
        "infer_ms": percentiles(latencies(infer_ms, processed)),
        "within_budget": 0.0 if infer_ms > 140 else 1.0,
    }


ENGINES = (
    ("eager", "fp32", False, {"fp32": 1.0}, 1.0),
    ("eager", "fp32", True, {"fp32": 1.0}, 0.88),
    ("openvino", "fp32", True, {"fp32": 1.0}, 0.47),
    ("openvino", "int8", True, {"int8": 0.96, "fp32": 0.04}, 0.135),
    ("onnx", "fp32", True, {"fp32": 1.0}, 0.62),
)
"""Back end, precision, folded, precision found, and time in that of eager."""
NETS = {"improved_unet": (98.0, 18.1), "unet": (83.0, 18.1), "segnet": (291.0, 69.8)}
"""Milliseconds of torch eager as trained at 192x224, and GFLOP."""


def nets_rows(run: Json | None = None, *, nets: tuple[str, ...] = tuple(NETS)) -> list[Row]:
    """Three nets, five variants each, at 192x224."""
    run = make_run("bench nets --json nets.json") if run is None else run
    return [_net_row(run, net, number) for net in nets for number in range(len(ENGINES))]


def _net_row(run: Json, net: str, number: int) -> Row:
    backend, precision, folded, found, part = ENGINES[number]
    eager_ms, gflop = NETS[net]
    median = eager_ms * part
    times = latencies(median, max(30, round(4000 / median)), seed=number)
    blocks = [list(block) for block in np.array_split(np.array(times), ROUNDS)]
    trained = net == "improved_unet" and folded
    int8 = precision == "int8"
    limit = run["limits"].get(precision)
    share = None if limit is None else round(gflop / (median / 1e3) / limit["giga_per_s"], 4)
    end_to_end = round(1e3 / (median * 1.02 + 1.5), 2)
    form = "" if folded else " as trained"
    return {
        "bench": "nets",
        "key": f"{net} {backend} {precision}{form} 192x224 b1",
        "run": run,
        "notes": [],
        "net": net,
        "backend": backend,
        "precision": precision,
        "precision_found": found,
        "trained": trained,
        "folded": folded,
        "height": 192,
        "width": 224,
        "batch": 1,
        "engine": {"name": f"{net}-{backend}-{precision}", "sha256": "ab" * 32, "from": "built"},
        "engine_fps": round(len(times) * 1e3 / sum(times), 3),
        "end_to_end_fps": end_to_end,
        "latency_ms": percentiles(times),
        "durations_ms": [[float(value) for value in block] for block in blocks],
        "end_to_end": {"offered": 120, "processed": 120, "dropped": 0, "stages_ms": stages(median)},
        "paced": [paced_figures(fps, median) for fps in (30.0, 60.0)],
        "dice": (0.93 if int8 else 0.934) if trained else None,
        "dice_data": "24 phantoms",
        "mask_agreement": (0.981 if int8 else 1.0) if trained else None,
        "probability_difference": 0.004 if int8 else 1e-6,
        "limit_share": share,
        "limit_share_spread": None if share is None else spread(share),
        "limit": limit and {"kind": precision, **limit},
        "gflop": gflop,
        "gflop_per_s": round(gflop / median * 1e3, 2),
        "ratio_to_eager": spread(round(1 / part, 3)),
        "model_bytes": 9_200_000 if int8 else 31_000_000,
        "peak_host_bytes": 412_000_000,
        "peak_gpu_bytes": None,
        "start_s": {"warm": 0.61, "build": 12.0 if int8 else None, "cold": 12.6 if int8 else None},
        "calls": len(times),
        "energy_j_per_frame": None,
        "rounds": {
            "engine_ms": [round(float(np.median(block)), 3) for block in blocks],
            "end_to_end_fps": [round(end_to_end * (1 + 0.01 * turn), 2) for turn in range(-2, 3)],
        },
    }


def pipeline_rows(run: Json | None = None) -> list[Row]:
    """Replay, and live at three paces, the last of which drops frames."""
    run = make_run("bench pipeline --json pipeline.json") if run is None else run
    live = [_pipeline_row(run, fps) for fps in (30.0, 60.0, 140.0)]
    return [_pipeline_row(run, None), *live]


def _pipeline_row(run: Json, fps: float | None) -> Row:
    seconds = 10
    offered = 640 if fps is None else round(fps * seconds)
    processed = offered if fps is None else min(offered, 68 * seconds)
    age = {None: 41.0, 30.0: 21.0, 60.0: 27.0, 140.0: 39.0}[fps]
    first = {"decode": 0.6, "queue": 22.0} if fps is None else {"wait": age - 17.5}
    last = "overlay" if fps is None else "display"
    medians = {**first, "preprocess": 0.5, "infer": 14.2, "postprocess": 0.8, last: 1.9}
    ages = latencies(age, processed, seed=7)
    step = max(1, processed // 400)
    over_time = [
        [round(k * seconds / processed, 3), max(ages[k : k + step])] for k in range(0, processed, step)
    ]
    return {
        "bench": "pipeline",
        "key": "replay phantom clip" if fps is None else f"live {fps:g} fps",
        "run": run,
        "notes": [],
        "mode": "replay" if fps is None else "live",
        "source_fps": fps,
        "engine": {
            "name": "improved_unet-openvino-int8",
            "sha256": "2e" * 32,
            "precision": "int8",
            "backend": "openvino",
        },
        "offered": offered,
        "processed": processed,
        "dropped": offered - processed,
        "fps": round(processed / seconds, 2),
        "age_ms": percentiles(ages),
        "stages_ms": {name: percentiles(latencies(median, 200)) for name, median in medians.items()},
        "within_budget": None if fps is None else 0.9985,
        "states": {"nerve": processed // 2, "no nerve": processed - processed // 2},
        "age_over_time": over_time[:400],
        "waterfall": {"p50": _life(medians, 1.0), "p99": _life(medians, 1.7)},
        "rounds": {
            "age_p50_ms": [age, age * 1.01, age * 0.99],
            "age_p99_ms": [age * 1.6, age * 1.7, age * 1.5],
            "fps": [round(processed / seconds, 2)] * 3,
        },
    }


def _life(medians: dict[str, float], times: float) -> list[list[Any]]:
    """One frame's stages, one behind another."""
    life, now = [], 0.0
    for name, median in medians.items():
        life.append([name, round(now, 3), round(now + median * times, 3)])
        now += median * times
    return life


def streams_rows(run: Json | None = None) -> list[Row]:
    """1, 2, 4 and 8 streams of 30 fps on a machine that does 68 frames a second."""
    run = make_run("bench streams --json streams.json") if run is None else run
    return [_streams_row(run, streams) for streams in (1, 2, 4, 8)]


def _streams_row(run: Json, streams: int) -> Row:
    offered = 300
    processed = min(offered, 680 // streams)
    age = 20.0 + 15.0 * (streams - 1)
    within = 1.0 if streams < 8 else 0.82
    each = {
        "offered": offered,
        "processed": processed,
        "dropped": offered - processed,
        "age_ms": percentiles(latencies(age, processed)),
        "within_budget": within,
    }
    return {
        "bench": "streams",
        "key": f"{streams} stream{'s' if streams > 1 else ''}",
        "run": run,
        "notes": [],
        "streams": streams,
        "source_fps": 30.0,
        "engine": {
            "name": "improved_unet-openvino-int8",
            "sha256": "2e" * 32,
            "precision": "int8",
            "backend": "openvino",
        },
        "batch": 1,
        "offered": offered * streams,
        "processed": processed * streams,
        "dropped": (offered - processed) * streams,
        "per_stream": [each] * streams,
        "processed_fps": processed * streams / 10,
        "age_ms": percentiles(latencies(age, processed * streams)),
        "within_budget": within,
        "holds_budget": streams < 8,
        "holds_every_frame": streams < 3,
        "processor_share": min(0.98, 0.42 * streams),
        "batch_fill": 1.0,
        "rounds": {"age_p99_ms": [age * 1.5] * 3, "processed_fps": [processed * streams / 10] * 3},
    }


PEERS = (
    ("runtime", "streamseg OpenVINO INT8", True, "int8", 13.4, None),
    ("runtime", "streamseg OpenVINO FP32", True, "fp32", 46.0, None),
    ("runtime", "OpenVINO, plain", False, "fp32", 45.5, "the same runtime, without our frame's copy"),
    ("runtime", "ONNX Runtime", False, "fp32", 61.0, None),
    ("runtime", "OpenCV DNN", False, "fp32", 88.0, None),
    ("runtime", "torch.compile", False, "fp32", 71.0, None),
    ("runtime", "torch eager", False, "fp32", 86.0, None),
    ("pipeline", "streamseg, drawn", True, "int8", 15.6, None),
    ("pipeline", "OpenCV loop", False, "int8", 19.8, "decodes, segments and draws one after another"),
    ("pipeline", "supervision", False, "int8", 31.0, None),
    ("net", "improved U-Net, OpenVINO", True, "fp32", 46.0, None),
    ("net", "MONAI BasicUNet, OpenVINO", False, "fp32", 31.0, "11.9 GFLOP instead of 18.1"),
    ("net", "MONAI DynUNet, OpenVINO", False, "fp32", 52.0, "20.4 GFLOP instead of 18.1"),
)
"""Kind, name, ours, precision, milliseconds, why."""


def peers_rows(run: Json | None = None) -> list[Row]:
    """Runtimes, pipelines and nets, some of them faster than ours."""
    run = make_run("bench peers --json peers.json") if run is None else run
    ours = {"runtime": 46.0, "pipeline": 15.6, "net": 46.0}
    return [
        {
            "bench": "peers",
            "key": f"{kind} {name.lower()}",
            "run": run,
            "notes": [],
            "kind": kind,
            "name": name,
            "ours": mine,
            "precision": precision,
            "fps": round(1e3 / median, 2),
            "latency_ms": percentiles(latencies(median, 60)),
            "ratio": {"median": 1.0, "min": 1.0, "max": 1.0}
            if mine
            else spread(round(median / ours[kind], 3)),
            "why": why,
            "version": None if mine else "1.2.3",
            "difference": 2e-6 if kind == "runtime" and precision == "fp32" else None,
            "mask_dice": 0.998 if kind != "net" else None,
            "gflop": 18.1 if kind == "net" else None,
            "ready_s": 1.2,
            "durations_ms": [latencies(median, 12)] * ROUNDS,
            "rounds": {"engine_ms": [median] * ROUNDS},
        }
        for kind, name, mine, precision, median, why in PEERS
    ]


def all_rows() -> list[Row]:
    """A run of each benchmark."""
    return [*nets_rows(), *pipeline_rows(), *streams_rows(), *peers_rows()]


def blanked(row: Row) -> Row:
    """The row with every figure of its kind unknown."""
    kept = ("bench", "key", "run", "rounds", "notes")
    return {name: value if name in kept else None for name, value in row.items()}
