"""Recordings of live runs: the format on disk, and reading it."""
