"""Measures without a GPU what TensorRT converts: operators, engines per net, and plans of TensorRT-RTX.

    python -m benchmarks.tensorrt_coverage --size 192x256

For each net and precision: how many operators torch-tensorrt-rtx converts, into how many engines (a dry run);
whether TensorRT-RTX builds a plan of the net for compute capability 8.9, through torch-tensorrt and through
ONNX, and its size; the types that the layers of torch-tensorrt's network read. It says nothing about numbers,
speed, Hopper, or TensorRT 10 and 11, which share the converters but not the compiler. Packages go into an
environment of their own in the user's cache folder, which borrows torch and the rest from this one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamseg.benchmark.provenance import ROOT
from streamseg.core.files import write_whole
from streamseg.core.hardware import versions_of

RTX = "1.5.0.114"
ALONE = (
    "torch-tensorrt-rtx==2.13.0",
    *(f"{name}=={RTX}" for name in ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-libs")),
    f"tensorrt-rtx-cu13-bindings=={RTX}",
)
"""Installed without what they ask for: that would bring another torch."""
NEEDED = ("dllist", "psutil", "packaging", "requests", "huggingface_hub")
"""What they and modelopt import."""
VERSIONS = ("torch", "nvidia-modelopt", "onnx", "onnxscript")
NETS = ("unet", "segnet", "improved_unet", "lite_unet")
PRECISIONS = ("fp32", "fp16", "int8")


class NotHereError(Exception):
    """The environment cannot be made on this machine; the message says why."""


def environment() -> Path:
    """Python of the environment, made if it is missing. Raises NotHereError."""
    torch = versions_of(("torch",)).get("torch", "none")
    if not torch.startswith("2.13."):
        raise NotHereError(f"torch-tensorrt-rtx 2.13 needs torch 2.13, found {torch}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "streamseg" / f"tensorrt-coverage-{RTX}-{sys.version_info.major}{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / "complete"
    if done.is_file():
        return python
    try:
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, *NEEDED])
        _call([*pip, "--no-deps", *ALONE])
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotHereError(f"cannot install {', '.join(ALONE)}: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(f"cannot make {folder}: {error}") from error
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for library in site.glob("torch_tensorrt/lib/*.so"):
        library.unlink()  # they want CUDA's libraries, and only run engines
    done.touch()
    return python


def _call(command: Sequence[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)


def examine(python: Path, net: str, precision: str, size: tuple[int, int]) -> dict[str, Any]:
    """What :mod:`benchmarks.tensorrt_coverage.child` finds out about a net. Raises RuntimeError."""
    command = [str(python), "-m", "benchmarks.tensorrt_coverage.child", net, precision, *map(str, size)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=1500, env=_clean()
    )
    if done.returncode != 0:
        raise RuntimeError(f"{net} {precision}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="192x256", help="height x width of the input")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    try:
        python = environment()
    except NotHereError as reason:
        sys.exit(str(reason))
    date = datetime.now(UTC).date().isoformat()
    rows = []
    for net in NETS:
        for precision in PRECISIONS:
            rows.append(examine(python, net, precision, (height, width)))
            print(json.dumps(rows[-1]), flush=True)
            result = {
                "date": date,
                "versions": versions_of(VERSIONS)
                | {"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx": RTX, "capability": "8.9, without a GPU"},
                "nets": rows,
            }
            write_whole(
                args.out / f"{date}-tensorrt-coverage.json", (json.dumps(result, indent=1) + "\n").encode()
            )


if __name__ == "__main__":
    main()
