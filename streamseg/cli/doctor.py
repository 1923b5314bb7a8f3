"""``streamseg doctor``: reports what this machine and installation offer, and why something is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg import __version__
from streamseg.cli.console import print_json, put
from streamseg.cli.options import JsonOption
from streamseg.core.errors import UsageError, one_line

if TYPE_CHECKING:
    from streamseg.core.plugins import Plugin

PACKAGES = ("numpy", "opencv-python", "av", "openvino", "pydicom", "torch", "nncf", "onnxruntime")
SELF_TEST_FRAMES = 10
DeviceOption = Annotated[
    list[str] | None,
    typer.Option("--device", metavar="PATH", help="Check this video device too; may be repeated."),
]


def doctor(device: DeviceOption = None, as_json: JsonOption = False) -> None:
    """Report what this machine and installation offer.

    Lists versions, processor, GPU, back ends, the engine store, video devices with their formats, and the
    default engine. Never fails: what cannot be determined is reported with the reason.
    """
    sections: dict[str, Callable[[], Any]] = {
        "versions": versions,
        "processor": processor,
        "memory_gib": memory_gib,
        "memory_usable_gib": memory_usable_gib,
        "gpu": gpus,
        "backends": backends,
        "plugins": installed_plugins,
        "engine_store": engine_store,
        "video_devices": partial(video_devices, device or ()),
        "default_engine": default_engine,
    }
    report = {name: _attempt(section) for name, section in sections.items()}
    if as_json:
        print_json(report)
    else:
        _print_lines(report)


def _attempt(section: Callable[[], Any]) -> Any:
    # This command must answer even on a broken installation: any exception becomes an answer.
    try:
        return section()
    except Exception as error:
        return {"error": one_line(f"{type(error).__name__}: {error}")}


def versions() -> dict[str, str | None]:
    """Versions of the packages that results depend on; None if not installed. Imports nothing heavy."""
    import platform

    from streamseg.core.hardware import versions_of

    found: dict[str, str | None] = {
        "streamseg": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    found |= dict.fromkeys(PACKAGES) | versions_of(PACKAGES)
    found["ffmpeg"] = _attempt(_ffmpeg_version)
    return found


def _ffmpeg_version() -> str:
    import cv2  # noqa: F401 - must come before av, or a later window would hang

    # isort: split
    import av

    return str(av.ffmpeg_version_info)


def processor() -> dict[str, Any]:
    """Model, number of cores, and features relevant for inference (Linux: from /proc/cpuinfo)."""
    from streamseg.core.hardware import this_processor, usable_cores

    here = this_processor()
    return {
        "model": here.processor,
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "features": list(here.features),
    }


def memory_gib() -> float:
    """Physical memory in GiB."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def memory_usable_gib() -> float:
    """Memory that this process may use, GiB: the physical one, or what its container allows."""
    from streamseg.core.hardware import memory_limit

    limit = memory_limit()
    return memory_gib() if limit is None else min(memory_gib(), round(limit / 2**30, 1))


def gpus() -> list[str]:
    """NVIDIA GPUs with memory, driver and compute capability, from nvidia-smi; empty without a GPU."""
    from streamseg.core.hardware import nvidia_gpus

    return [", ".join(gpu.values()) for gpu in nvidia_gpus()]


def backends() -> dict[str, str]:
    """For each back end ``available`` with its devices, or why not. Imports only OpenVINO."""
    found = {
        "openvino": _attempt(_openvino_devices),
        "onnx": _installed("onnxruntime", "export"),
        "tensorrt": _attempt(_tensorrt),
        "compiled": _installed("torch", "tensorrt"),
        "eager": _installed("torch", "train"),
    }
    return {
        name: answer if isinstance(answer, str) else f"unavailable: {answer['error']}"
        for name, answer in found.items()
    }


def _installed(package: str, extra: str) -> str:
    if find_spec(package):
        return f"available ({package})"
    return f"{package} is not installed; pip install 'streamseg[{extra}]'"


def _tensorrt() -> str:
    from streamseg.core.hardware import this_machine

    package = next((name for name in ("tensorrt", "tensorrt_rtx") if find_spec(name)), None)
    if package is None:
        return "tensorrt is not installed; pip install 'streamseg[tensorrt]'"
    capability = this_machine().compute_capability
    if not capability:
        return f"{package} is installed, but there is no NVIDIA GPU, or its driver does not answer"
    return f"available ({package}, compute capability {capability})"


def _openvino_devices() -> str:
    import openvino as ov

    core = ov.Core()
    devices = [f"{name}: {core.get_property(name, 'FULL_DEVICE_NAME')}" for name in core.available_devices]
    return f"available ({'; '.join(devices)})"


def installed_plugins() -> dict[str, str]:
    """What other packages add, by kind and name: ``available``, or why it cannot be used. Imports them."""
    from streamseg.core.plugins import KINDS, plugins

    return {f"{kind} {name}": _plugin(plugin) for kind in KINDS for name, plugin in plugins(kind).items()}


def _plugin(plugin: Plugin) -> str:
    try:
        _ = plugin.part
    except UsageError as error:
        return str(error)
    return "available"


def engine_store() -> dict[str, Any]:
    """Folder and number of the engines built here, and the engine that runs by default."""
    from streamseg.cli.engines import taken_by_default
    from streamseg.engines.store import EngineStore

    store = EngineStore()
    return {
        "path": str(store.root),
        "engines": len(store.entries()),
        "taken_by_default": taken_by_default(store),
    }


def video_devices(paths: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The machine's video devices and those at ``paths``: formats with sizes and rates, or the problem."""
    from streamseg.capture.v4l2.devices import device_paths, list_devices

    every = dict.fromkeys([*device_paths(), *paths])
    return [device.to_json() for device in list_devices(every)]


def default_engine() -> dict[str, Any]:
    """Name, hash, precision and input size of the default engine, and its time for a synthetic image."""
    from streamseg.backends import load_backend
    from streamseg.core.engine_info import EngineInfo
    from streamseg.core.types import Frame
    from streamseg.phantom import render_still
    from streamseg.segmentation.segmenter import Segmenter

    start = time.monotonic_ns()
    backend = load_backend()
    info = EngineInfo.of(backend)
    loaded = time.monotonic_ns()
    try:
        segmenter = Segmenter(backend, None)
        frame = Frame(render_still(1, nerve=True).image, 0, loaded)
        took = []
        for _ in range(SELF_TEST_FRAMES):
            began = time.monotonic_ns()
            found = segmenter.segment(frame)
            took.append((time.monotonic_ns() - began) / 1e6)
    finally:
        backend.close()
    return {
        **info.identity(),
        "precision": info.precision,
        "input": f"{backend.spec.height}x{backend.spec.width}",
        "load_ms": round((loaded - start) / 1e6, 1),
        "self_test": f"{found.state} in a synthetic image with nerve, confidence {found.confidence:.2f}",
        "frame_ms_median": round(sorted(took)[len(took) // 2], 1),
    }


def _print_lines(report: dict[str, Any]) -> None:
    for name, value in report.items():
        if name == "video_devices" and isinstance(value, list) and value:
            put("\n".join([f"{name}:", *device_lines(value)]))
        elif isinstance(value, dict) and value:
            put(f"{name}:")
            for key, item in value.items():
                put(f"  {key}: {_text(item)}")
        else:
            put(f"{name}: {_text(value)}")


def device_lines(devices: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Video devices as text: one line per device, and one per pixel format."""
    for device in devices:
        named = f"{device['name']} ({device['driver']}), " if device["name"] else ""
        usable = f"would be read as {device['mode']}" if device["mode"] else device["problem"]
        yield f"  {device['path']}: {named}{usable}"
        if device.get("warning"):
            yield f"    warning: {device['warning']}"
        for item in device["formats"]:
            name = item["format"] or f"{item['code']} (cannot be read)"
            yield f"    {name}: {'; '.join(map(_size, item['sizes'])) or 'any size'}"


def _size(size: Mapping[str, Any]) -> str:
    upper = "x".join(map(str, size["up_to"] or ()))
    joint = " to " if size["continuous_rates"] else ", "
    rates = joint.join(f"{rate:.4g}" for rate in size["rates"])
    return (
        f"{size['width']}x{size['height']}" + (f" to {upper}" if upper else "") + (rates and f" at {rates}")
    )


def _text(value: Any) -> str:
    if value is None:
        return "not installed"
    if isinstance(value, dict):
        return str(value.get("error", value)) if value else "none"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return str(value)
