"""States and areas over all clips of an archive."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from streamseg.archive.folder import ArchiveFolder
from streamseg.core.spec import NERVE

_COLUMNS = ["state", "structure", "area_px", "area_mm2"]
_SHARES = {"p5": 5, "p50": 50, "p95": 95}


def summarise(folder: ArchiveFolder) -> dict[str, Any]:
    """Clips, frames, frames by state, and for each structure the frames with an outline and their areas.

    Areas are means and percentiles over the frames with an outline, in mm² over those whose spacing is known.
    """
    states: Counter[str] = Counter()
    areas: dict[str, dict[str, list[Any]]] = {}
    paths = sorted(str(path) for path in folder.clips.glob("*.parquet"))
    if paths:
        for batch in ds.dataset(paths, format="parquet").to_batches(columns=_COLUMNS):
            state, structure, pixels, square_mm = (batch.column(name) for name in _COLUMNS)
            names = np.asarray(structure.to_pylist(), object)
            # Every frame has exactly one row of the nerve.
            states.update(np.asarray(state.to_pylist(), object)[names == NERVE].tolist())
            px = pixels.to_numpy(zero_copy_only=False)
            mm2 = square_mm.to_numpy(zero_copy_only=False).astype(np.float64)
            for name in set(names.tolist()):
                outlined = (names == name) & (px > 0)
                of = areas.setdefault(name, {"area_px": [], "area_mm2": []})
                of["area_px"].append(px[outlined])
                of["area_mm2"].append(mm2[outlined & np.isfinite(mm2)])
    structures = {
        name: {
            "outlined": int(sum(len(part) for part in of["area_px"])),
            **{what: _figures(np.concatenate(parts)) for what, parts in of.items()},
        }
        for name, of in sorted(areas.items())
    }
    return {
        "clips": len(paths),
        "frames": states.total(),
        "states": dict(states.most_common()),
        "structures": structures,
    }


def _figures(values: Any) -> dict[str, float] | None:
    if not len(values):
        return None
    shares = zip(_SHARES, np.percentile(values, list(_SHARES.values())), strict=True)
    return {"mean": round(float(values.mean()), 2), **{name: round(float(v), 2) for name, v in shares}}
