"""Cines and results for tests of DICOM outputs, and DICOM's own validator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.core.cine import CineReference
from streamseg.core.engine_info import EngineInfo
from streamseg.core.types import (
    Frame,
    InputSpec,
    Mask,
    Result,
    Roi,
    Segmentation,
    SourceInfo,
    State,
    Structure,
)

ENGINE = EngineInfo("net-openvino-int8", "ab" * 32, InputSpec(32, 48, 0.0, 1.0, 0.5), "openvino")
US_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
CINE = CineReference(
    study_uid="1.2.3.10",
    series_uid="1.2.3.11",
    instance_uid="1.2.3.12",
    class_uid=US_MULTI_FRAME,
    rows=60,
    columns=90,
    frames=10,
    multi_frame=True,
    patient_and_study={
        0x00080005: b"ISO_IR 100",
        0x00080020: b"20260102",
        0x00080030: b"101112",
        0x00100010: "Müller^Jörg".encode("latin-1"),
        0x00100020: b"SECRET-4711",
        0x00100030: b"19700101",
        0x00100040: b"M",
        0x00200010: b"7",
    },
    compression={},
    series_number=3,
)
INFO = SourceInfo("cine.dcm", 60, 90)


def cine(rows: int, columns: int, **changes: object) -> CineReference:
    return replace(CINE, rows=rows, columns=columns, **changes)  # type: ignore[arg-type]


def disc(shape: tuple[int, int], *centres: tuple[int, int], radius: int = 9) -> Mask:
    """A mask of discs at (x, y)."""
    mask = np.zeros(shape, np.uint8)
    for centre in centres:
        cv2.circle(mask, centre, radius, 1, -1)
    return mask.astype(bool)


def contours_of(mask: Mask) -> tuple[np.ndarray, ...]:
    """Outer outlines, largest first, as the postprocessing gives them."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return tuple(sorted((c.reshape(-1, 2) for c in found), key=lambda c: -cv2.contourArea(c)))


def structure(mask: Mask, spacing: tuple[float, float] | None = None) -> Structure:
    area = int(mask.sum())
    mm2 = None if spacing is None else area * spacing[0] * spacing[1]
    return Structure(mask, contours_of(mask), area, mm2, None, 0.9)


def result(
    index: int,
    mask: Mask,
    *,
    others: Mapping[str, Mask] | None = None,
    state: State | None = None,
    spacing: tuple[float, float] | None = None,
    file_index: int | None = -1,
    pts: float | None = None,
    roi: Roi | None = None,
) -> Result:
    """The result of a frame of noise; ``file_index`` -1: the same as the index."""
    one = structure(mask, spacing)
    found = Segmentation(
        mask,
        one.contours,
        one.area_px,
        one.area_mm2,
        None,
        0.9,
        state or (State.NERVE if mask.any() else State.NO_NERVE),
        others={name: structure(other, spacing) for name, other in (others or {}).items()},
    )
    image = np.random.default_rng(index).integers(20, 90, (*mask.shape, 3), np.uint8)
    number = index if file_index == -1 else file_index
    return Result(Frame(image, index, 0, pts, spacing, number), found, roi or Roi.whole(image))


def check_standard(path: Path) -> None:
    """Skip without dciodvfy; fail on any error that it finds."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian's dicom3tools)")
    said = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (said.stdout + said.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert any(line in ("Segmentation", "ComprehensiveSR", "USMultiFrameImage") for line in lines), lines
