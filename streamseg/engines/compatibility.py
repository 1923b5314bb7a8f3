"""Checks from its manifest whether an engine fits this machine, before anything is deserialised.

The accuracy gate judges an engine for the processor on one set of CPU features, because these choose the
kernels, and with them how INT8 saturates; on other features its verdict would mean nothing. An engine for a
GPU is compiled for one compute capability. Both kinds depend on the exact versions of what runs them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from streamseg.core.hardware import Machine, this_machine, this_processor, versions_of
from streamseg.engines.manifest import Manifest

RUN_BY = {"openvino": ("openvino",), "onnx": ("onnxruntime",), "compiled": ("torch", "triton")}
"""Packages that run a back end's engines, by back end; for TensorRT the manifest names them."""
EXTRAS = {"onnx": "export", "compiled": "tensorrt", "tensorrt": "tensorrt"}
"""The extra that installs what runs a back end's engines, by back end."""


def incompatibilities(
    manifest: Manifest, machine: Machine | None = None, versions: Mapping[str, str] | None = None
) -> list[str]:
    """Reasons why an engine does not fit a machine, each a human-readable phrase; empty if it fits.

    ``machine`` None is this one; ``versions`` (by package) None are the installed ones. Portable engines fit
    everywhere.
    """
    if manifest.portable:
        return []
    if manifest.machine is None:
        return ["its manifest does not say what machine it was built for"]
    if machine is None:
        # Calling nvidia-smi takes time, so only engines for a GPU ask for it.
        machine = this_machine() if on_gpu(manifest) else this_processor()
    compare = _gpu_reasons if on_gpu(manifest) else _processor_reasons
    return compare(manifest.machine, machine) + _version_reasons(manifest, versions)


def on_gpu(manifest: Manifest) -> bool:
    """Whether an engine runs on an NVIDIA GPU."""
    if manifest.backend == "tensorrt":
        return True
    return manifest.backend == "compiled" and bool(manifest.machine and manifest.machine.compute_capability)


def run_by(manifest: Manifest) -> tuple[str, ...]:
    """Packages that must have the versions that the engine was built with."""
    if manifest.backend == "tensorrt":
        return tuple(sorted(name for name in manifest.versions if name.startswith("tensorrt")))
    names = RUN_BY.get(manifest.backend, ())
    return tuple(name for name in names if name != "triton" or name in manifest.versions)


def identity(manifest: Manifest) -> dict[str, Any]:
    """The values of machine and versions that distinguish engines: part of the key in the store."""
    if manifest.portable:
        return {}
    built_on = manifest.machine
    features = [] if built_on is None else sorted(built_on.features)
    capability = "" if built_on is None else built_on.compute_capability
    where = {"compute_capability": capability} if on_gpu(manifest) else {"features": features}
    return where | {"versions": dict(sorted(manifest.versions.items()))}


def command_for(manifest: Manifest) -> list[str]:
    """The command, word by word, that builds the engine again on the machine where it is called."""
    size = f"{manifest.spec.height}x{manifest.spec.width}"
    words = ["streamseg", "export", manifest.source or manifest.net, "--backend", manifest.backend]
    words += ["--precision", manifest.precision, "--size", size]
    if manifest.batch != 1:
        words += ["--batch", str(manifest.batch)]
    if manifest.spec.mirrored:
        words.append("--mirror")
    data = manifest.calibration.get("folder")
    return [*words, "--data", data] if isinstance(data, str) and data else words


def export_command(manifest: Manifest) -> str:
    """The command as text for a shell."""
    return shlex.join(command_for(manifest))


def _gpu_reasons(built: Machine, here: Machine) -> list[str]:
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


def _processor_reasons(built: Machine, here: Machine) -> list[str]:
    missing = sorted(set(built.features) - set(here.features))
    more = sorted(set(here.features) - set(built.features))
    reasons = []
    if missing:
        reasons.append(f"built for a processor with {', '.join(missing)}, which this one lacks")
    if more:
        reasons.append(f"built for a processor without {', '.join(more)}, which this one has")
    return reasons


def _version_reasons(manifest: Manifest, versions: Mapping[str, str] | None) -> list[str]:
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
    """A version without the build number, which OpenVINO's own version string has."""
    return version.partition("-")[0]


def _major(version: str) -> int | None:
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else None
