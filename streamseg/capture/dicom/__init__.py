"""DICOM cines and images."""
