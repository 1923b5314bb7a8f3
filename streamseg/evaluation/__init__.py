"""Overlap, surface distance, calibration and intervals; all of it over a data set."""
