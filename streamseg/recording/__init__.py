"""Observers that record a live run: the whole run into a folder, or its records into a file."""

from streamseg.recording.live_records import LiveRecords
from streamseg.recording.switch import RecorderToggle
from streamseg.recording.writer import Recorder

__all__ = ["LiveRecords", "Recorder", "RecorderToggle"]
