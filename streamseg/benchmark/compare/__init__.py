"""Compares two results: what got slower or worse."""
