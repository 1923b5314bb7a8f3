"""Weights and engines on disk: manifest, integrity, compatibility, store."""
