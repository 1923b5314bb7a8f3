"""DICOM files for tests: real ones from pydicom and pydicom-data, and numbered cines written here."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom.data
import pytest
from PIL import Image as Pillow
from pydicom import FileDataset, dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from tests.capture.media import picture

data_store = pytest.importorskip("data_store", reason="needs the package pydicom-data")
FOLDERS = (Path(data_store.__file__).parent / "data", Path(pydicom.data.__file__).parent / "test_files")


def sample(name: str) -> Path:
    """A real file that pydicom or pydicom-data ships."""
    return next(folder / name for folder in FOLDERS if (folder / name).exists())


def jpeg(image: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=95, **options)
    data = buffer.getvalue()
    return data + bytes(len(data) % 2)


def write_dicom(
    path: Path,
    frames: Sequence[npt.NDArray[np.generic]],
    *,
    syntax: UID = ExplicitVRLittleEndian,
    photometric: str | None = None,
    encoded: Sequence[bytes] | None = None,
    change: Callable[[Dataset], object] | None = None,
) -> Path:
    """Write a cine of arrays (H, W) or (H, W, 3) as they are, or of frames encoded elsewhere."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.PatientID = "Doe^Jane", "SECRET-4711"
    first = frames[0]
    data.Rows, data.Columns = first.shape[:2]
    data.SamplesPerPixel = 3 if first.ndim == 3 else 1
    data.PhotometricInterpretation = photometric or ("RGB" if first.ndim == 3 else "MONOCHROME2")
    if first.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = first.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(first.dtype.kind == "i")
    data.NumberOfFrames = len(frames)
    plain = b"".join(frame.tobytes() for frame in frames)
    data.PixelData = encapsulate(list(encoded)) if encoded is not None else plain + bytes(len(plain) % 2)
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    if change is not None:
        change(data)
    data.save_as(path, enforce_file_format=True)
    return path


def encoded(kind: str, count: int, path: Path, change: Callable[[Dataset], object] | None = None) -> Path:
    """A numbered cine in a transfer syntax."""
    cine = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(count)]
    if kind == "jpeg":
        return write_dicom(
            path,
            cine,
            syntax=JPEGBaseline8Bit,
            photometric="YBR_FULL_422",
            encoded=[jpeg(i) for i in cine],
            change=change,
        )
    if kind == "deflated":
        return write_dicom(path, cine, syntax=DeflatedExplicitVRLittleEndian, change=change)
    write_dicom(path, cine, change=change)
    if kind != "plain":
        data = dcmread(path)
        data.compress({"rle": RLELossless, "jpeg 2000": JPEG2000Lossless}[kind])
        data.save_as(path)
    return path
