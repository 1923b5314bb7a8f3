"""Whether an engine fits the running machine: found out from its manifest, before anything is deserialised.

Engines for the processor are judged on one set of CPU features, because these choose the kernels, and with
them how INT8 saturates: elsewhere the accuracy gate's verdict would mean nothing. Engines for a GPU are
compiled for one compute capability. Both depend on the very versions of what runs them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from streamseg.core.hardware import Machine, this_machine, this_processor, versions_of
from streamseg.engines.manifest import Manifest

RUN_BY = {"openvino": ("openvino",), "onnx": ("onnxruntime",), "compiled": ("torch", "triton")}
"""Packages that run a back end's engines, by back end; TensorRT's are those that the manifest names."""
EXTRAS = {"onnx": "export", "compiled": "tensorrt", "tensorrt": "tensorrt"}
"""The extra that installs what runs a back end's engines, by back end."""


def incompatibilities(
    manifest: Manifest, machine: Machine | None = None, versions: Mapping[str, str] | None = None
) -> list[str]:
    """Why an engine does not fit a machine, each reason a phrase for people; empty where it fits.

    ``machine`` None is this one, ``versions`` (by package) None those that are installed. Portable engines
    fit everywhere.
    """
    if manifest.portable:
        return []
    if manifest.machine is None:
        return ["its manifest does not say what machine it was built for"]
    if machine is None:
        # Only a GPU's engines are worth the call of nvidia-smi.
        machine = this_machine() if on_gpu(manifest) else this_processor()
    compare = _gpu_misfits if on_gpu(manifest) else _processor_misfits
    return compare(manifest.machine, machine) + _version_misfits(manifest, versions)


def on_gpu(manifest: Manifest) -> bool:
    """Whether an engine runs on an NVIDIA GPU."""
    if manifest.backend == "tensorrt":
        return True
    return manifest.backend == "compiled" and bool(manifest.machine and manifest.machine.compute_capability)


def run_by(manifest: Manifest) -> tuple[str, ...]:
    """Packages whose versions must be those that the engine was built with."""
    if manifest.backend == "tensorrt":
        return tuple(sorted(name for name in manifest.versions if name.startswith("tensorrt")))
    names = RUN_BY.get(manifest.backend, ())
    return tuple(name for name in names if name != "triton" or name in manifest.versions)


def identity(manifest: Manifest) -> dict[str, Any]:
    """What of machine and versions makes it another engine: part of its key in the store."""
    if manifest.portable:
        return {}
    built_on = manifest.machine
    features = [] if built_on is None else sorted(built_on.features)
    capability = "" if built_on is None else built_on.compute_capability
    where = {"compute_capability": capability} if on_gpu(manifest) else {"features": features}
    return where | {"versions": dict(sorted(manifest.versions.items()))}


def command_for(manifest: Manifest) -> list[str]:
    """The command, word by word, that builds such an engine for the machine that it runs on."""
    size = f"{manifest.spec.height}x{manifest.spec.width}"
    words = ["streamseg", "export", manifest.source or manifest.net, "--backend", manifest.backend]
    words += ["--precision", manifest.precision, "--size", size]
    if manifest.batch != 1:
        words += ["--batch", str(manifest.batch)]
    data = manifest.calibration.get("folder")
    return [*words, "--data", data] if isinstance(data, str) and data else words


def export_command(manifest: Manifest) -> str:
    """The same command as text for a shell."""
    return shlex.join(command_for(manifest))


def _gpu_misfits(built: Machine, here: Machine) -> list[str]:
    if not here.compute_capability:
        return [f"built for compute capability {built.compute_capability}, this machine has no NVIDIA GPU"]
    reasons = []
    if here.compute_capability != built.compute_capability:
        reasons.append(
            f"built for compute capability {built.compute_capability or 'unknown'}, "
            f"this machine has {here.compute_capability}"
        )
    then, now = _major(built.driver), _major(here.driver)
    if then is not None and now is not None and now < then:
        reasons.append(f"built under driver {built.driver}, this machine has the older {here.driver}")
    return reasons


def _processor_misfits(built: Machine, here: Machine) -> list[str]:
    missing = sorted(set(built.features) - set(here.features))
    more = sorted(set(here.features) - set(built.features))
    reasons = []
    if missing:
        reasons.append(f"built for a processor with {', '.join(missing)}, which this one lacks")
    if more:
        reasons.append(f"built for a processor without {', '.join(more)}, which this one has")
    return reasons


def _version_misfits(manifest: Manifest, versions: Mapping[str, str] | None) -> list[str]:
    packages = run_by(manifest)
    if not packages:
        return [f"its manifest does not say which version of {manifest.backend} it was built with"]
    installed = versions_of(packages) if versions is None else versions
    reasons = []
    for package in packages:
        built, here = manifest.versions.get(package), installed.get(package)
        if here is None:
            extra = EXTRAS.get(manifest.backend)
            remedy = f"'streamseg[{extra}]'" if extra else package
            reasons.append(f"it runs on {package}, which is not installed (pip install {remedy})")
        elif built is None:
            reasons.append(f"its manifest does not say which {package} it was built with")
        elif _release(built) != _release(here):
            reasons.append(f"built with {package} {built}, this machine has {here}")
    return reasons


def _release(version: str) -> str:
    """A version without the build's number, which OpenVINO adds when it is asked itself."""
    return version.partition("-")[0]


def _major(version: str) -> int | None:
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else None
