"""Adapts a net to a scanner: rounds of fine-tuning on labelled frames, their history, and their reports."""
