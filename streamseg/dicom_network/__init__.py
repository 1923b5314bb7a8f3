"""Sends DICOM files to archives and receives them from scanners: the only place that knows pynetdicom."""

from __future__ import annotations

import logging

# Both log values of elements, which may name a patient.
for _library in ("pynetdicom", "pydicom"):
    logging.getLogger(_library).propagate = False
