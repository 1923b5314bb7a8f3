"""Recorded video files."""
