"""Frames to be labelled by people: which ones, out to labelling programs, and their labels back."""
