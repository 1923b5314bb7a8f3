"""One clip's records as a Parquet file: one row per frame and structure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamseg.core.errors import DataError, one_line
from streamseg.core.files import finite, parse_json
from streamseg.core.types import Result
from streamseg.datasets.rle import encode
from streamseg.sinks.target import sink_errors

FORMAT = "streamseg-archive-1"
METADATA = b"streamseg"
"""Key of the file's metadata under which the JSON of :meth:`ParquetRecords.finish` lies."""
ROWS = 1000
"""Rows that are held in memory and written together."""
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("file_frame", pa.int64()),
        pa.field("time_s", pa.float64()),
        pa.field("state", pa.string(), nullable=False),
        pa.field("structure", pa.string(), nullable=False),
        pa.field("area_px", pa.int64(), nullable=False),
        pa.field("area_mm2", pa.float64()),
        pa.field("centroid_x", pa.float64()),
        pa.field("centroid_y", pa.float64()),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("polygons", pa.list_(pa.list_(pa.int32())), nullable=False),
        pa.field("mask_rle", pa.string()),
    ]
)


class ParquetRecords:
    """A sink that writes rows into a file, which is complete only after :meth:`finish`. Raises SinkError."""

    name = "records"

    def __init__(self, path: Path, *, source: str, source_sha256: str, masks: bool) -> None:
        self.path = path
        self.frames = 0
        """Frames written."""
        self._common = source, source_sha256
        self._masks = masks
        self._rows: list[tuple[Any, ...]] = []
        with sink_errors(path, pa.ArrowException):
            self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def write(self, result: Result) -> None:
        """Add the rows of one frame: one for each structure that the engine outlines."""
        frame = result.frame
        for name, structure in result.segmentation.structures.items():
            x, y = structure.centroid or (None, None)
            self._rows.append(
                (
                    *self._common,
                    frame.index,
                    frame.file_index,
                    finite(frame.pts_seconds),
                    str(result.state),
                    name,
                    int(structure.area_px),
                    finite(structure.area_mm2),
                    finite(x),
                    finite(y),
                    structure.confidence,
                    [contour.ravel().tolist() for contour in structure.contours],
                    encode(structure.mask) if self._masks else None,
                )
            )
        self.frames += 1
        if len(self._rows) >= ROWS:
            self._flush()

    def close(self) -> None:
        """Nothing: the loop closes its sinks before the figures of the run are known."""

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write the rest and the metadata, and close. A second call does nothing."""
        if self._writer.is_open:
            self._flush()
            with sink_errors(self.path, pa.ArrowException):
                self._writer.add_key_value_metadata({METADATA: json.dumps(finite(about), allow_nan=False)})
                self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*self._rows, strict=True), SCHEMA, strict=True)
            ]
            with sink_errors(self.path, pa.ArrowException):
                self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
            self._rows.clear()


def read_about(path: Path) -> dict[str, Any]:
    """The metadata of a clip's file: source, engine, version, frames, seconds, region. Raises DataError."""
    try:
        about = parse_json((pq.read_metadata(path).metadata or {})[METADATA])
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {path}: {one_line(error)}; remove it, so that its clip is done again"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"{path} is not of the format {FORMAT}; remove it, so that its clip is done again")
    return about
