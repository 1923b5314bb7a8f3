"""Taps that keep a live run: the whole of it in a folder, or its records in a file."""

from streamseg.recording.live_records import LiveRecords
from streamseg.recording.switch import RecorderToggle
from streamseg.recording.writer import Recorder

__all__ = ["LiveRecords", "Recorder", "RecorderToggle"]
