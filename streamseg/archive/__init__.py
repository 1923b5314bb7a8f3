"""Thousands of clips to one Parquet file of records per clip, exactly once each, by many workers.

``clips`` finds the clips, ``folder`` publishes results, ``segment`` does one clip, ``scheduler`` gives clips
to workers and replaces those that die. ``local`` has workers on this machine, ``ray_cluster`` on several.
"""

from __future__ import annotations

from importlib.util import find_spec

from streamseg.core.errors import MissingExtra

if find_spec("pyarrow") is None:
    raise MissingExtra("an archive", "pyarrow", "archive")
